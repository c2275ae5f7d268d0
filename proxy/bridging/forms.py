"""The messages of Triton's extensions to Open Inference over gRPC: their fields and what they hold.

Theory of operation
-------------------
`FORMS` is a table, read once: for each message its fields with their number, name and kind. A kind is
``bool``, ``int`` (signed), ``uint``, ``float``, ``double``, ``text``, ``bytes``, a message or an enumeration;
``[]`` behind it means several, ``{}`` a map from texts or numbers, ``?`` that the field is there only if it
was set. An enumeration lists its words from 0 on.

Names and numbers as in the published ``model_config.proto`` and ``grpc_service.proto``. Fields that they will
have one day are not in the table, and are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ("FORMS", "WORDS", "Field")

Shape = Literal["one", "choice", "many", "map"]

_TABLE: Final = """
ModelStatistics: 1 name text; 2 version text; 3 last_inference uint; 4 inference_count uint; 5
  execution_count uint; 6 inference_stats InferStatistics; 7 batch_stats InferBatchStatistics[]; 8
  memory_usage MemoryUsage[]; 9 response_stats InferResponseStatistics{}
InferStatistics: 1 success StatisticDuration; 2 fail StatisticDuration; 3 queue StatisticDuration; 4
  compute_input StatisticDuration; 5 compute_infer StatisticDuration; 6 compute_output
  StatisticDuration; 7 cache_hit StatisticDuration; 8 cache_miss StatisticDuration
StatisticDuration: 1 count uint; 2 ns uint
InferBatchStatistics: 1 batch_size uint; 2 compute_input StatisticDuration; 3 compute_infer
  StatisticDuration; 4 compute_output StatisticDuration
MemoryUsage: 1 type text; 2 id int; 3 byte_size uint
InferResponseStatistics: 1 compute_infer StatisticDuration; 2 compute_output StatisticDuration; 3
  success StatisticDuration; 4 fail StatisticDuration; 5 empty_response StatisticDuration; 6 cancel
  StatisticDuration
ModelConfig: 1 name text; 2 platform text; 17 backend text; 25 runtime text; 3 version_policy
  ModelVersionPolicy; 4 max_batch_size int; 5 input ModelInput[]; 6 output ModelOutput[]; 20
  batch_input BatchInput[]; 21 batch_output BatchOutput[]; 12 optimization ModelOptimizationPolicy;
  11 dynamic_batching ModelDynamicBatching?; 13 sequence_batching ModelSequenceBatching?; 15
  ensemble_scheduling ModelEnsembling?; 7 instance_group ModelInstanceGroup[]; 8
  default_model_filename text; 9 cc_model_filenames text{}; 10 metric_tags text{}; 14 parameters
  ModelParameter{}; 16 model_warmup ModelWarmup[]; 18 model_operations ModelOperations; 19
  model_transaction_policy ModelTransactionPolicy; 23 model_repository_agents ModelRepositoryAgents;
  24 response_cache ModelResponseCache; 26 model_metrics ModelMetrics
ModelVersionPolicy: 1 latest Latest?; 2 all All?; 3 specific Specific?
Latest: 1 num_versions uint
All:
Specific: 1 versions int[]
ModelInput: 1 name text; 2 data_type DataType; 3 format Format; 4 dims int[]; 5 reshape
  ModelTensorReshape; 6 is_shape_tensor bool; 7 allow_ragged_batch bool; 8 optional bool; 9
  is_non_linear_format_io bool
ModelTensorReshape: 1 shape int[]
ModelOutput: 1 name text; 2 data_type DataType; 3 dims int[]; 5 reshape ModelTensorReshape; 4
  label_filename text; 6 is_shape_tensor bool; 7 is_non_linear_format_io bool
BatchInput: 1 kind BatchInputKind; 2 target_name text[]; 3 data_type DataType; 4 source_input text[]
BatchOutput: 1 target_name text[]; 2 kind BatchOutputKind; 3 source_input text[]
ModelOptimizationPolicy: 1 graph Graph; 2 priority ModelPriority; 3 cuda Cuda; 4
  execution_accelerators ExecutionAccelerators; 5 input_pinned_memory PinnedMemoryBuffer; 6
  output_pinned_memory PinnedMemoryBuffer; 7 gather_kernel_buffer_threshold uint; 8 eager_batching
  bool
Graph: 1 level int
Cuda: 1 graphs bool; 2 busy_wait_events bool; 3 graph_spec GraphSpec[]; 4 output_copy_stream bool
GraphSpec: 1 batch_size int; 2 input Shape{}; 3 graph_lower_bound LowerBound
Shape: 1 dim int[]
LowerBound: 1 batch_size int; 2 input Shape{}
ExecutionAccelerators: 1 gpu_execution_accelerator Accelerator[]; 2 cpu_execution_accelerator
  Accelerator[]
Accelerator: 1 name text; 2 parameters text{}
PinnedMemoryBuffer: 1 enable bool
ModelDynamicBatching: 1 preferred_batch_size int[]; 2 max_queue_delay_microseconds uint; 3
  preserve_ordering bool; 4 priority_levels uint; 5 default_priority_level uint; 6
  default_queue_policy ModelQueuePolicy; 7 priority_queue_policy ModelQueuePolicy{}
ModelQueuePolicy: 1 timeout_action TimeoutAction; 2 default_timeout_microseconds uint; 3
  allow_timeout_override bool; 4 max_queue_size uint
ModelSequenceBatching: 3 direct StrategyDirect?; 4 oldest StrategyOldest?; 1
  max_sequence_idle_microseconds uint; 2 control_input ControlInput[]; 5 state State[]; 6
  iterative_sequence bool
StrategyDirect: 1 max_queue_delay_microseconds uint; 2 minimum_slot_utilization float
StrategyOldest: 1 max_candidate_sequences int; 2 preferred_batch_size int[]; 3
  max_queue_delay_microseconds uint; 4 preserve_ordering bool
ControlInput: 1 name text; 2 control Control[]
Control: 1 kind ControlKind; 2 int32_false_true int[]; 3 fp32_false_true float[]; 5 bool_false_true
  bool[]; 4 data_type DataType
State: 1 input_name text; 2 output_name text; 3 data_type DataType; 4 dims int[]; 5 initial_state
  InitialState[]; 6 use_same_buffer_for_input_output bool; 7 use_growable_memory bool
InitialState: 1 data_type DataType; 2 dims int[]; 3 zero_data bool?; 4 data_file text?; 5 name text
ModelEnsembling: 1 step Step[]; 2 max_inflight_requests uint
Step: 1 model_name text; 2 model_version int; 3 input_map text{}; 4 output_map text{}; 5
  model_namespace text
ModelInstanceGroup: 1 name text; 4 kind ModelInstanceGroupKind; 2 count int; 6 rate_limiter
  ModelRateLimiter; 3 gpus int[]; 8 secondary_devices SecondaryDevice[]; 5 profile text[]; 7 passive
  bool; 9 host_policy text
ModelRateLimiter: 1 resources Resource[]; 2 priority uint
Resource: 1 name text; 2 global bool; 3 count uint
SecondaryDevice: 1 kind SecondaryDeviceKind; 2 device_id int
ModelParameter: 1 string_value text
ModelWarmup: 1 name text; 2 batch_size uint; 3 inputs Input{}; 4 count uint
Input: 1 data_type DataType; 2 dims int[]; 3 zero_data bool?; 4 random_data bool?; 5 input_data_file
  text?
ModelOperations: 1 op_library_filename text[]
ModelTransactionPolicy: 1 decoupled bool
ModelRepositoryAgents: 1 agents Agent[]
Agent: 1 name text; 2 parameters text{}
ModelResponseCache: 1 enable bool
ModelMetrics: 1 metric_control MetricControl[]
MetricControl: 1 metric_identifier MetricIdentifier; 2 histogram_options HistogramOptions?
MetricIdentifier: 1 family text
HistogramOptions: 1 buckets double[]
DataType = TYPE_INVALID TYPE_BOOL TYPE_UINT8 TYPE_UINT16 TYPE_UINT32 TYPE_UINT64 TYPE_INT8
  TYPE_INT16 TYPE_INT32 TYPE_INT64 TYPE_FP16 TYPE_FP32 TYPE_FP64 TYPE_STRING TYPE_BF16
Format = FORMAT_NONE FORMAT_NHWC FORMAT_NCHW
BatchInputKind = BATCH_ELEMENT_COUNT BATCH_ACCUMULATED_ELEMENT_COUNT
  BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO BATCH_MAX_ELEMENT_COUNT_AS_SHAPE BATCH_ITEM_SHAPE
  BATCH_ITEM_SHAPE_FLATTEN
BatchOutputKind = BATCH_SCATTER_WITH_INPUT_SHAPE
ModelPriority = PRIORITY_DEFAULT PRIORITY_MAX PRIORITY_MIN
TimeoutAction = REJECT DELAY
ControlKind = CONTROL_SEQUENCE_START CONTROL_SEQUENCE_READY CONTROL_SEQUENCE_END
  CONTROL_SEQUENCE_CORRID
ModelInstanceGroupKind = KIND_AUTO KIND_GPU KIND_CPU KIND_MODEL
SecondaryDeviceKind = KIND_NVDLA
"""
_SHAPES: Final[dict[str, Shape]] = {"[]": "many", "{}": "map"}


class Field(NamedTuple):
    """A field of a message: its `name`, the `kind` of what it holds, and how often."""

    name: str
    kind: str
    shape: Shape


def _entries(separator: str) -> Iterable[tuple[str, str]]:
    """The names and definitions of the table that have this separator between them."""
    for entry in _TABLE.replace("\n  ", " ").strip().splitlines():
        name, found, definition = entry.partition(separator)
        if found:
            yield name, definition


def _fields(definition: str) -> Iterable[tuple[int, Field]]:
    for words in map(str.split, definition.split(";")):
        if words:
            number, name, kind = words
            shape = _SHAPES.get(kind[-2:], "choice" if kind.endswith("?") else "one")
            yield int(number), Field(name, kind.rstrip("[]{}?"), shape)


FORMS: Final[Mapping[str, Mapping[int, Field]]] = {
    name: dict(_fields(definition)) for name, definition in _entries(":")
}
"""The fields of each message by their number."""

WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(definition.split()) for name, definition in _entries(" = ")
}
"""The words of each enumeration, in order."""
