"""A plain loop over the C functions, to compare the engine with."""

import numpy as np

from leanrag.llama.library import library


def plain_logits(model, tokens):
    """Logits `(n, n_vocab)` after each of `tokens`, computed in a context of their own."""
    lib = library()
    parameters = lib.llama_context_default_params()
    parameters.n_ctx = 256
    parameters.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = lib.llama_init_from_model(model._engine._weights.model, parameters)
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    assert lib.llama_decode(context, batch) == 0
    shape = (len(tokens), model._engine.vocabulary.n_tokens)
    logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, 0), shape).copy()
    lib.llama_batch_free(batch)
    lib.llama_free(context)
    return logits
