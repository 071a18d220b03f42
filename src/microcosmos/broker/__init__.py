"""Topics that nobody remembers: publish and subscribe."""

from .interface import MAX_BODY, Broker, Message, Subscription
from .messages import Messages
from .subscriber import Subscriber

__all__ = ["MAX_BODY", "Broker", "Message", "Messages", "Subscriber", "Subscription"]
