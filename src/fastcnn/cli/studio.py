"""`fastcnn studio`: a page in the browser to gather photos, train, understand and use classifiers."""

from __future__ import annotations

import argparse

from fastcnn.cli._arguments import whole


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = (
        "FOLDER has a sub-folder of photos for each class, or is empty, or does not exist yet. The page needs no\n"
        "network: photos stay on this machine. What it knows lies in FOLDER/.fastcnn.\n\n"
        "example: fastcnn studio flowers/"
    )
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default="photos", help="the project (default: photos)")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default: 127.0.0.1)")
    parser.add_argument("--port", type=whole(0, 65535), metavar="N", help="default: 8421, or whichever is free")
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open nothing")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from fastcnn.studio.server import serve

    serve(options.folder, options.host, options.port, not options.no_browser)
    return 0
