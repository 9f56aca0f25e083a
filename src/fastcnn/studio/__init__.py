"""The studio: a page in the browser where photos are gathered, classifiers trained, understood and used.

Nothing leaves this machine. The page is static/, its routes are app.py's, and server.py runs them. Photos are in
project.py, training in runs.py, what was learned in examined.py and looking.py, and lesson.py shows how it works.
"""

from __future__ import annotations
