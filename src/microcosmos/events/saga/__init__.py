"""Sagas: steps that all happen, or are all taken back."""

from .journal import Progress, Status, StepState
from .saga import Saga
from .step import Attempt, Refused, Step

__all__ = ["Attempt", "Progress", "Refused", "Saga", "Status", "Step", "StepState"]
