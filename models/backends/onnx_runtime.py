"""ONNX Runtime: the CPU, and the accelerators that it has execution providers for.

On the CPU: one thread, no spinning, the same bits for a row in any batch. The quantized network is integer arithmetic
from its first QuantizeLinear to its last DequantizeLinear, so rows cannot influence each other through the order of a
sum. Its weights use 7 bits: on x86 without VNNI an 8-bit product pair would saturate, and answers would differ from
machine to machine.

On an accelerator: the whole network or nothing. ONNX Runtime would quietly give what a provider does not take to the
CPU, and all of it where the provider is absent, with only a warning.
"""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.backends import Runtime, check_inputs
from models.manifest import PackError

if TYPE_CHECKING:
    from models.pack import ModelPack

Float32 = npt.NDArray[np.float32]
Options = dict[str, str]

CPU_PROVIDER = "CPUExecutionProvider"
OPENVINO_PLUGIN = "onnxruntime_ep_openvino"
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class _Provider:
    """An execution provider, as ONNX Runtime knows it."""

    name: str
    device: str = "CPU"
    """Kind of device, for a provider that comes as a plug-in and has several."""
    nodes: tuple[str, ...] = ()
    """Device files of the kernel, one of which must be there: a pattern each."""
    one_row: bool = False
    """Takes fixed shapes only: rows are run one by one."""
    options: Options = field(default_factory=dict)


_PROVIDERS = {
    "cpu": _Provider(CPU_PROVIDER),
    "tensorrt": _Provider("TensorrtExecutionProvider", options={"trt_int8_enable": "1"}),
    "cuda": _Provider("CUDAExecutionProvider", one_row=True),  # in float, sums would depend on the batch
    "qnn": _Provider("QNNExecutionProvider", one_row=True, options={"backend_type": "htp"}),
    "openvino": _Provider("OpenVINOExecutionProvider"),
    "openvino-gpu": _Provider("OpenVINOExecutionProvider", "GPU", ("dri/renderD*",)),
    "openvino-npu": _Provider("OpenVINOExecutionProvider", "NPU", ("accel/accel*",), one_row=True),
}


def missing(name: str) -> str:
    """See RuntimeModule."""
    import onnxruntime  # noqa: PLC0415  (36 MB, 0.3 s: only where it is wanted)

    provider = _PROVIDERS[name]
    if provider.name not in onnxruntime.get_available_providers() and not _plugin(name):
        return f"this build of onnxruntime has no {provider.name}"
    if provider.nodes and not any(list(Path("/dev").glob(pattern)) for pattern in provider.nodes):
        return f"this machine has no /dev/{' or /dev/'.join(provider.nodes)}"
    return ""


def version(name: str) -> str:
    """See RuntimeModule."""
    packages = ["onnxruntime", "onnxruntime-gpu", "onnxruntime-qnn", "onnxruntime-openvino"]
    if _plugin(name):
        packages.append(OPENVINO_PLUGIN.replace("_", "-"))
    found = [f"{package} {number}" for package in packages if (number := _installed(package))]
    if name in {"tensorrt", "cuda"} and _NVIDIA_DRIVER.exists():
        found.append(_NVIDIA_DRIVER.read_text(encoding="utf-8", errors="replace").splitlines()[0])
    return ", ".join(found)


def open_network(pack: ModelPack, runtime: Runtime, cache: Path | None) -> OnnxBackend:
    """See RuntimeModule."""
    return OnnxBackend(pack, runtime, cache)


MOST_ROWS = 64
"""Rows of one run: what lies between the layers stays in the cache, and a ward costs no more memory than so many."""


class OnnxBackend:
    """A pack's network in an ONNX Runtime session."""

    def __init__(self, pack: ModelPack, runtime: Runtime, cache: Path | None = None) -> None:
        """Raises PackError when the network does not load, is not shaped as the manifest says, or runs elsewhere."""
        import onnxruntime  # noqa: PLC0415

        self.name = runtime.name
        provider = _PROVIDERS[runtime.name]
        self._one_row = provider.one_row
        self._shapes = pack.input_shapes
        self._outputs = pack.outputs
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        if provider.name != CPU_PROVIDER:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if provider.one_row:
            options.add_free_dimension_override_by_name("batch", 1)
        try:
            chosen = self._choose(onnxruntime, options, provider, cache)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a provider is absent: asked about right after
                self._session = onnxruntime.InferenceSession(
                    pack.weights[runtime.weights], options, **({"providers": chosen} if chosen else {})
                )
        except Exception as error:  # onnxruntime raises a class of its own for each status
            raise PackError(pack.path, f"ONNX Runtime cannot load the network on {self.name}: {error}") from error
        if self._session.get_providers()[0] != provider.name:
            raise PackError(pack.path, f"{self.name} is not there: ONNX Runtime would run the network on the CPU")
        self._check(pack, self._session)

    def run(self, inputs: dict[str, Float32]) -> Float32:
        """See Backend.run."""
        batch = check_inputs(inputs, self._shapes)
        if batch == 0:
            return np.empty((0, self._outputs), dtype=np.float32)
        step = 1 if self._one_row else MOST_ROWS
        parts = [
            self._session.run(None, {name: array[i : i + step] for name, array in inputs.items()})[0]
            for i in range(0, batch, step)
        ]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _choose(self, onnxruntime: Any, options: Any, provider: _Provider, cache: Path | None) -> list[Any]:
        """Providers to name to the session; none where a plug-in's device was put into `options`."""
        wanted = dict(provider.options)
        if self.name == "tensorrt":
            wanted |= self._profile()
            if cache is not None:
                cache.mkdir(parents=True, exist_ok=True)
                wanted |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)}
        if not _plugin(self.name):
            return [(provider.name, wanted)] if wanted else [provider.name]
        devices = [
            one
            for one in _plugin_devices(onnxruntime)
            if one.ep_name == provider.name and one.device.type.name == provider.device
        ]
        if not devices:
            raise RuntimeError(f"the plug-in finds no {provider.device}")
        options.add_provider_for_devices(devices[:1], wanted)
        return []

    def _profile(self) -> Options:
        """Shapes that TensorRT builds its engine for, so that it need not be built again for each new batch."""
        return {
            f"trt_profile_{name}_shapes": ",".join(
                f"{put}:{'x'.join(map(str, (rows, *shape)))}" for put, shape in self._shapes.items()
            )
            for name, rows in (("min", 1), ("opt", 16), ("max", 4096))
        }

    def _check(self, pack: ModelPack, session: Any) -> None:
        found = {put.name: tuple(put.shape[1:]) for put in session.get_inputs()}
        if found != self._shapes:
            raise PackError(pack.path, f"the network takes {found}, the manifest says {self._shapes}")
        outputs = [tuple(out.shape[1:]) for out in session.get_outputs()]
        if outputs != [(self._outputs,)]:
            raise PackError(pack.path, f"the network gives {outputs}, the manifest names {self._outputs} outputs")


def _plugin(name: str) -> bool:
    """Whether the runtime comes as a plug-in library that is installed here."""
    return name.startswith("openvino") and importlib.util.find_spec(OPENVINO_PLUGIN) is not None


def _plugin_devices(onnxruntime: Any) -> list[Any]:
    """Devices of all providers, the plug-in's among them; it is registered once a process."""
    plugin = importlib.import_module(OPENVINO_PLUGIN)
    if not any(one.ep_name == plugin.get_ep_name() for one in onnxruntime.get_ep_devices()):
        onnxruntime.register_execution_provider_library(plugin.get_ep_name(), plugin.get_library_path())
    devices: list[Any] = onnxruntime.get_ep_devices()
    return devices


def _installed(package: str) -> str:
    try:
        return version_of(package)
    except PackageNotFoundError:
        return ""
