"""`python -m fastcnn.compiler MODEL` shows what each pass of the compiler makes of a model.

    python -m fastcnn.compiler mobilenet_v2 --after fuse
    python -m fastcnn.compiler model.onnx --size 224 --training

This program stands above the other files of its folder, because it reads models as the command line does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fastcnn.cli._models import add_size, any_model, set_size
from fastcnn.compiler.compile import PASSES, stages
from fastcnn.compiler.show import as_text
from fastcnn.compiler.state import Options, State
from fastcnn.kernels import _cpu
from fastcnn.kernels._program import default_float_modes
from fastcnn.model import Model
from fastcnn.training.optimizers import SGD
from fastcnn.training.trainer import Trainer

GIVEN = "given"  # the graph before the first pass


def main(argv: Sequence[str] | None = None) -> int:
    """Print the graph after each pass, or after one.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        Exit code: 0, or 2 after an error.
    """
    names = [GIVEN, *(step.__name__ for step in PASSES)]
    parser = argparse.ArgumentParser(
        prog="python -m fastcnn.compiler",
        description="Show what each pass of the compiler makes of a model.",
        epilog=f"passes: {', '.join(names)}",
    )
    parser.add_argument("model", metavar="MODEL", help="a network of the zoo, a saved model or an ONNX file")
    parser.add_argument("--after", metavar="PASS", help="show the graph after this pass alone")
    parser.add_argument("--training", action="store_true", help="show a training step instead of a prediction")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images (default: 1)")
    add_size(parser)
    options = parser.parse_args(argv)
    try:
        if options.after is not None and options.after not in names:
            raise ValueError(f"--after={options.after!r}, expected one of {', '.join(names)}")
        if options.batch < 1:
            raise ValueError(f"--batch={options.batch}, expected at least 1")
        model = any_model(options.model)
        set_size(model, options.size)
        show(first_state(model, options.batch, options.training), options.after)
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"fastcnn.compiler: {error}", file=sys.stderr)
        return 2
    return 0


def first_state(model: Model, batch: int, training: bool) -> State:
    """Make the state that the first pass takes.

    Parameters
    ----------
    model : Model
    batch : int
        Number of images.
    training : bool
        Whether the graph is a training step, by SGD with momentum.
    """
    if model.input_shape is None:
        raise ValueError("the model does not tell the size of its images: give --size")
    shape = (batch, *model.input_shape)
    vl = _cpu.vector_length()
    if training:
        step = Trainer(model, SGD(0.1, momentum=0.9))._graph(shape)
        return State(step.graph, step.graph.infer(step.shapes), Options(vl, parameters=frozenset(step.packed)))
    graph = model._kernel_graph(model.input_shape)
    return State(graph, graph.infer(dict.fromkeys(graph.inputs, shape)), Options(vl))


def show(state: State, after: str | None) -> None:
    """Print the graph as it is given and after each pass, or after the one that is named.

    The reasons against other algorithms follow the pass that chooses, or the only pass that is shown.
    """
    found = state
    if after in (None, GIVEN):
        print(f"{GIVEN}\n{as_text(state)}")
    with default_float_modes():
        for name, found in stages(state):
            if after == name:
                print(f"after {name}\n{as_text(found)}")
                return
            if after is None:
                text = as_text(found, reasons=name == "choose_algorithms")
                print(f"\nafter {name}" + (": nothing to do" if found is state else f"\n{text}"))
            state = found


if __name__ == "__main__":
    sys.exit(main())
