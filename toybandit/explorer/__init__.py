"""The live explorer, a page that simulates in the browser: page.py puts it together, the JavaScript beside it runs."""
