"""The OpenAPI document: what each route declares, and how the document is built from that."""
