"""The border with llama.cpp.

Built on the C binding (`llama_cpp.llama_cpp`), not on the binding's `Llama` class: that class has one sequence, no
cancellation, no thread safety, and ways to end the process that Python cannot catch. Modules in the order of data flow:
`gguf` (what a file is, before llama.cpp sees it), `library` (loading, logs, features), `threads`, `vocabulary` (text to
tokens), `chat` (messages to tokens), `sampling` (logits to a token), `schema`, `gbnf` and `grammar` (what the tokens must spell),
`requests` (what is asked), `engine` (the owner thread), `model` (the public class), `process` (the same in a process of its own).
"""
