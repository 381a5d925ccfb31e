"""Every kind of model, file and template, and what the models of the registry answer."""
