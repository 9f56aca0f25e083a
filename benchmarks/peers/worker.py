"""Runs one engine on one network in a process of its own: `worker.py ENGINE FOLDER THREADS [PRECISION]`.

It reads "run SECONDS" lines from stdin. After each it prints the seconds of single predictions as JSON. The first line
of its output is the prediction for the first input, for comparison.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

# The fewest calls of a turn that count, even if they are slow.
LEAST_CALLS = 2


def fastcnn_engine(folder: Path, x: np.ndarray, threads: int, precision: str = "f32") -> Callable[[], np.ndarray]:
    import fastcnn

    fastcnn.set_num_threads(threads)
    model = fastcnn.load(folder / ("model.onnx" if precision == "int8" else "model.safetensors"))
    return lambda: model(x)


def model_file(folder: Path) -> Path:
    """The ONNX file in a folder, or the path itself if it is a file."""
    return folder / "model.onnx" if folder.is_dir() else folder


def onnxruntime_engine(folder: Path, x: np.ndarray, threads: int, precision: str = "f32") -> Callable[[], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model_file(folder), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})[0]


def openvino_engine(folder: Path, x: np.ndarray, threads: int, precision: str = "f32") -> Callable[[], np.ndarray]:
    import openvino

    hint = "bf16" if precision == "bf16" else "f32"  # what is not quantised in a file of integers stays float32
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(model_file(folder), "CPU", settings).create_infer_request()
    return lambda: request.infer([x])[0]


def torch_engine(folder: Path, x: np.ndarray, threads: int, precision: str = "f32") -> Callable[[], np.ndarray]:
    import torch

    torch.set_num_threads(threads)
    module = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.load(str(folder / "model.pt")).eval()))
    tensor = torch.tensor(x)

    def call() -> np.ndarray:
        with torch.inference_mode():
            return module(tensor).numpy()

    return call


def ncnn_engine(folder: Path, x: np.ndarray, threads: int, precision: str = "f32") -> Callable[[], np.ndarray]:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param(str(folder / "single.ncnn.param"))
    net.load_model(str(folder / "single.ncnn.bin"))

    def call() -> np.ndarray:
        rows = []
        for image in x:  # ncnn takes single images
            with net.create_extractor() as extractor:
                extractor.input("in0", ncnn.Mat(image))
                rows.append(np.array(extractor.extract("out0")[1]))
        return np.stack(rows)

    return call


def peak_bytes() -> int:
    """Return the most memory that this process has had. getrusage would return the parent's, from before the exec."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    engine, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    call = globals()[f"{engine}_engine"](folder, np.load(folder / "x.npy"), threads, *sys.argv[4:])
    print(json.dumps(call()[0].ravel().tolist()), flush=True)
    serve(call)


def serve(call: Callable[[], object]) -> None:
    """Answer requests until stdin ends. The first call of a request does not count: other engines have used the caches
    since the last one."""
    for line in sys.stdin:
        end = perf_counter() + float(line.split()[1])
        times: list[float] = []
        while len(times) < 1 + LEAST_CALLS or perf_counter() < end:
            start = perf_counter()
            call()
            times.append(perf_counter() - start)
        print(json.dumps(times[1:]), flush=True)


if __name__ == "__main__":
    main()
