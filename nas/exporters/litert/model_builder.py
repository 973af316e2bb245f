"""Builder of a LiteRT model (``.tflite``): tensors, buffers and operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

FILE_IDENTIFIER: Final = b"TFL3"
SCHEMA_VERSION: Final = 3
SIGNATURE: Final = "serving_default"
_ALIGNMENT: Final = 16  # bytes, of buffers: ``force_align`` of the schema, which the generated code does not know
_LARGEST_OLD_CODE: Final = 127  # of operators in the field that readers before 2020 know
_TENSOR_TYPES: Final = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32}


class ModelBuilder:
    """Tensors, buffers and operators of a model with one subgraph.

    Tensors are known by their names. ``description``: of the model.
    """

    def __init__(self, description: str) -> None:
        self._subgraph: Any = schema.SubGraphT()
        self._subgraph.name, self._subgraph.tensors, self._subgraph.operators = "main", [], []
        self._model: Any = schema.ModelT()
        self._model.version, self._model.description = SCHEMA_VERSION, description
        self._model.subgraphs, self._model.operatorCodes, self._model.metadata = [self._subgraph], [], []
        self._model.buffers = [schema.BufferT()]  # the first is the empty one of tensors without a value
        self._codes: dict[tuple[int, int], int] = {}
        self._tensors: dict[str, int] = {}
        self.computed: list[str] = []  # outputs of all operators, in order

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return tuple(self._subgraph.tensors[self._tensors[name]].shape.tolist())

    def tensor(self, name: str, shape: Sequence[int]) -> str:
        """Add a float32 tensor whose value is computed; returns ``name``."""
        return self._add_tensor(name, shape, "float32", 0)

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add a tensor with a value, float32 or int32; returns ``name``."""
        return self._add_tensor(name, value.shape, value.dtype.name, self._add_buffer(value))

    def operator(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        options: str = "",
        *,
        version: int = 1,
        **fields: Any,
    ) -> None:
        """Add an operator.

        ``kind``: name of a ``BuiltinOperator``. ``options``: name of its table of options without ``Options``, whose
        ``fields`` are set; "" for none. ``version``: of the operator, the first that knows what is asked for.
        """
        node: Any = schema.OperatorT()
        node.opcodeIndex = self._operator_code(getattr(schema.BuiltinOperator, kind), version)
        node.inputs, node.outputs = self._indices(inputs), self._indices(outputs)
        if options:
            node.builtinOptionsType = getattr(schema.BuiltinOptions, f"{options}Options")
            node.builtinOptions = getattr(schema, f"{options}OptionsT")()
            for name, value in fields.items():
                setattr(node.builtinOptions, name, value)
        self._subgraph.operators.append(node)
        self.computed += outputs

    def metadata(self, name: str, value: bytes) -> None:
        """Add an entry of the model's metadata."""
        entry: Any = schema.MetadataT()
        entry.name, entry.buffer = name, self._add_buffer(np.frombuffer(value, dtype=np.uint8))
        self._model.metadata.append(entry)

    def build(self, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> bytes:
        """Serialise the model.

        ``inputs``, ``outputs``: tensors by their names in the signature ``serving_default``.
        """
        self._subgraph.inputs = self._indices(list(inputs.values()))
        self._subgraph.outputs = self._indices(list(outputs.values()))
        signature: Any = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs, signature.outputs = self._tensor_maps(inputs), self._tensor_maps(outputs)
        self._model.signatureDefs = [signature]
        size = sum(buffer.data.size for buffer in self._model.buffers if buffer.data is not None)
        builder = _AligningBuilder(size + (1 << 16))
        builder.Finish(self._model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _add_tensor(self, name: str, shape: Sequence[int], dtype: str, buffer: int) -> str:
        tensor: Any = schema.TensorT()
        tensor.name, tensor.shape = name, np.asarray(shape, dtype=np.int32)
        tensor.type, tensor.buffer, tensor.hasRank = _TENSOR_TYPES[dtype], buffer, True
        self._tensors[name] = len(self._subgraph.tensors)
        self._subgraph.tensors.append(tensor)
        return name

    def _add_buffer(self, value: npt.NDArray[Any]) -> int:
        buffer: Any = schema.BufferT()
        buffer.data = np.frombuffer(value.tobytes(), dtype=np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def _operator_code(self, code: int, version: int) -> int:
        if (code, version) not in self._codes:
            entry: Any = schema.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode = code, min(code, _LARGEST_OLD_CODE)
            entry.version = version
            self._codes[code, version] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(entry)
        return self._codes[code, version]

    def _indices(self, names: Sequence[str]) -> npt.NDArray[np.int32]:
        return np.array([self._tensors[name] for name in names], dtype=np.int32)

    def _tensor_maps(self, names: Mapping[str, str]) -> list[Any]:
        maps = []
        for name, tensor in names.items():
            entry: Any = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, self._tensors[tensor]
            maps.append(entry)
        return maps


class _AligningBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Builder that aligns vectors of bytes as buffers of a model must be."""

    def CreateNumpyVector(self, x: npt.NDArray[Any]) -> Any:
        """Write an array as a vector."""
        if x.dtype != np.uint8:
            return super().CreateNumpyVector(x)
        self.StartVector(1, x.size, _ALIGNMENT)
        self.head -= x.size
        self.Bytes[self.head : self.head + x.size] = x.tobytes()
        self.vectorNumElems = x.size
        return self.EndVector()
