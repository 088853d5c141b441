"""The explorer: a web application that reads the catalog and the object store and shows them page by page.

It changes nothing. Pages are made on the server, and the whole state of a view is in its URL. See docs/explorer.md.
"""
