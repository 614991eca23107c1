"""The dispatcher when it is not in the gateway's process: what both sides hold, and what they tell each other.

`remote` is one model as a gateway sees it, `desk` the same model at its dispatcher; `messages` is what goes between
them. Both are as pure as the scheduler: messages and the time in, effects out. docs/distributed.md has the protocol.
"""
