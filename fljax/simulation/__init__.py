"""One run from its configuration: data, clients, model, program, folder."""
