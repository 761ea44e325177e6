"""One HTTP surface for all services: app factory, keys and scopes, problems, paging, health."""
