# Shared by the make_golden.py of the position encodings: writes one case of golden.csv in the format that the rule
# MatchesGoldenValues reads. q and k are the same for all heads; hidden pairs are those that the encoding masks.
import numpy as np


def rows(seed, n, d):
    return np.round(np.random.default_rng(seed).normal(size=(n, d)) * 64) / 64


def rotate(x, angle, pairing="half"):
    """Rows x [n, d] turned by angle [n, d / 2]."""
    d = x.shape[1]
    first, second = (np.arange(0, d, 2), np.arange(1, d, 2)) if pairing == "interleaved" else (np.arange(d // 2), np.arange(d // 2, d))
    z = (x[:, first] + 1j * x[:, second]) * np.exp(1j * angle)
    y = np.empty_like(x)
    y[:, first], y[:, second] = z.real, z.imag
    return y


def turned(q, k, phase, pairing="half", factor=None):
    """Scores [n_q, n_k] = sum_m factor Re(q_m conj(k_m) exp(I phase)), one complex product per pair of tokens.
    phase (and factor, if given) [n_q, n_k, D / 2]; components from D on enter with their plain product."""
    dims = 2 * phase.shape[2]
    first, second = (np.arange(0, dims, 2), np.arange(1, dims, 2)) if pairing == "interleaved" else (np.arange(dims // 2), np.arange(dims // 2, dims))
    z = (q[:, first] + 1j * q[:, second])[:, None, :] * np.conj(k[:, first] + 1j * k[:, second])[None, :, :] * np.exp(1j * phase)
    return (z.real * (1 if factor is None else factor)).sum(2) + q[:, dims:] @ k[:, dims:].T


def frequencies(d, base=1e4):
    """theta_m = base^(-2 m / d)"""
    return base ** (-2 * np.arange(d // 2) / d)


def distances(n_q, n_k, query_offset=0):
    """i - j"""
    return np.arange(n_q)[:, None] + query_offset - np.arange(n_k)[None, :]


def numbers(word, values):
    return word + ";" + ";".join(f"{x:.17g}" for x in np.ravel(values)) + "\n"


def write(out, spec, causal, query_offset, train_length, q, k, scores, coordinates=None, context=None, parameters=()):
    """scores [heads, n_q, n_k]; NaN = hidden by the encoding. The causal mask is applied here.
    context: further fields of PositionContext by name; parameters: values of the tensors in declared order."""
    heads, n_q, n_k = scores.shape
    out.write(f"case;{spec};{int(causal)};{n_q};{n_k};{query_offset};{heads};{q.shape[1]};{train_length}\n")
    if coordinates is not None:
        out.write("coordinates;" + ";".join(f"{x:.17g}" for x in np.ravel(coordinates)) + "\n")
    if context:
        out.write("context;" + ";".join(f"{name}={value}" for name, value in context.items()) + "\n")
    for values in parameters:
        out.write(numbers("parameters", values))
    out.write("q;" + ";".join(f"{x:.17g}" for x in q.ravel()) + "\n")
    out.write("k;" + ";".join(f"{x:.17g}" for x in k.ravel()) + "\n")
    i = np.arange(n_q)[:, None] + query_offset
    seen = ~np.isnan(scores) & ((np.arange(n_k)[None, :] <= i) if causal else True)
    out.write("scores;" + ";".join(f"{x:.12g}" if s else "hidden" for x, s in zip(scores.ravel(), np.broadcast_to(seen, scores.shape).ravel())) + "\n")


def write_embedding(out, spec, heads, d_head, first_token, added, parameters=()):
    """added [n, heads * d_head]: what the encoding adds to the embeddings of tokens first_token, first_token + 1, ..."""
    n = first_token + len(added)
    out.write(f"case;{spec};1;{n};{n};0;{heads};{d_head};0\n")
    for values in parameters:
        out.write(numbers("parameters", values))
    out.write(f"embedding;{first_token};" + ";".join(f"{x:.12g}" for x in added.ravel()) + "\n")
