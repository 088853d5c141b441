"""The pages: each reads its parameters, asks its questions in one transaction, and fills its template."""
