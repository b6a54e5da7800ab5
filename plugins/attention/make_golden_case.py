# Shared by the make_golden.py of the attention methods: writes one case of golden.csv in the format that the rule
# MatchesGoldenValues reads. Inputs are multiples of 1/64, so that float32 holds them exactly.
import numpy as np


def inputs(seed, h_q, h_kv, n_q, n_k, d_k, d_v):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: np.round(rng.normal(size=shape) * 64) / 64
    return draw(h_q, n_q, d_k), draw(h_kv, n_k, d_k), draw(h_kv, n_k, d_v)


def scores(q, k, causal):
    """q . k of every query head with its key head, and which pairs see each other; the last query meets the last key."""
    h_q, n_q, _ = q.shape
    h_kv, n_k, _ = k.shape
    group = h_q // h_kv
    s = np.stack([q[h] @ k[h // group].T for h in range(h_q)])
    offset = n_k - n_q
    seen = np.ones((n_q, n_k), bool)
    if causal:
        seen = np.arange(n_k)[None, :] <= np.arange(n_q)[:, None] + offset
    n_seen = np.broadcast_to((np.arange(n_q) + offset + 1.0)[:, None] if causal else np.full((n_q, 1), float(n_k)), (n_q, 1))
    return s, seen, n_seen


def rounded(values):
    """Exactly as float32 will hold them."""
    return np.asarray(values, np.float32).astype(float)


def write(out, spec, causal, q, k, v, w):
    group = q.shape[0] // k.shape[0]
    write_output(out, spec, causal, q, k, v, np.stack([w[h] @ v[h // group] for h in range(q.shape[0])]))


def write_output(out, spec, causal, q, k, v, o, extra={}, parameters={}):
    """extra: name -> [heads, tokens, width]; parameters: name -> array; both rounded to float32 by the caller."""
    sizes = [q.shape[0], k.shape[0], q.shape[1], k.shape[1], q.shape[2], v.shape[2]]
    out.write(f"case;{spec};{int(causal)};" + ";".join(map(str, sizes)) + "\n")
    for name, values in (("q", q), ("k", k), ("v", v)):
        out.write(name + ";" + ";".join(f"{x:.17g}" for x in values.ravel()) + "\n")
    for kind, tensors in (("extra", extra), ("parameter", parameters)):
        for name, values in tensors.items():
            out.write(f"{kind};{name};" + ";".join(f"{x:.17g}" for x in np.asarray(values).ravel()) + "\n")
    out.write("o;" + ";".join(f"{x:.12g}" for x in o.ravel()) + "\n")
