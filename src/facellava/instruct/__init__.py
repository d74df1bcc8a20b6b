"""Builds instruction data: conversations about faces with answers that follow from evidence."""

from .evidence import FaceEvidence, Turn, checklist, conversation, measures_from_blendshapes, task_turn

__all__ = ["FaceEvidence", "Turn", "checklist", "conversation", "measures_from_blendshapes", "task_turn"]
