"""Find out if a line's experts are read from the file, where RAM has no room for them. Pure."""

from __future__ import annotations

from launcher.plan.amounts import HOST
from launcher.plan.memory.assign import Assignment
from launcher.plan.memory.budget import Budgets
from launcher.plan.modes import LoadMode
from launcher.plan.oracle import Answer, Question, Refusal

_OWN_LAYOUTS = ("CPU_REPACK", "AMX")  # buffer types of copies, which are no pages of the file


def maps_experts(
    question: Question, assignment: Assignment, budgets: Budgets, answer: Answer | Refusal
) -> bool:
    """Return whether all the host's experts are mapped: not copied, locked or in a device's memory."""
    if question.load_mode is not LoadMode.MMAP or question.locks_pages:
        return False
    if any(device.shares_host_memory for device in question.devices):
        return False
    if isinstance(answer, Answer) and any(row.buffer_type.startswith(_OWN_LAYOUTS) for row in answer.rows):
        return False
    # a device's host buffers come before the CPU's layouts (src/llama-model.cpp, make_cpu_buft_list), and
    # give way to the mapping (llama_model_base::load_tensors)
    own_device = not question.no_host and any(device.peer is None for device in question.devices)
    types = assignment.share(HOST).types
    return not question.repack or own_device or not types & budgets.repacked_types
