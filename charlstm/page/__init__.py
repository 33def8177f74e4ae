"""A model as one HTML file: `document.py` joins page.html, page.css and the scripts, in plain JavaScript."""
