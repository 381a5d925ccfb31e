"""Fewer tokens, the same evidence: compressors, what they may never touch, and when they pay.

`extractive` chooses whole sentences, rows and blocks; `self_information` thins words by a GGUF model's own surprise; `lingua`
drives the llmlingua package; `messages` applies any of them to chats and prompts. All of them return a `Compression`.
"""
