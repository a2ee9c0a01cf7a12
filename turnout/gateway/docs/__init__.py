"""`GET /docs`: the API's pages for people, rendered from its OpenAPI document, its plan and its examples."""
