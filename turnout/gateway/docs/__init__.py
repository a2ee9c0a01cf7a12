"""`GET /docs`: the API's pages for users, rendered from its OpenAPI document, its plan and its examples."""
