// The transcendental parts of the network. In float: Highway, chosen at run time. In double: plain and exact, for checks.
#pragma once

#include "borel/tensor.hpp"

namespace borel::probe {

/// out_i = x_i s(c (x_i + a x_i^3)), s the logistic function, c = 2 sqrt(2 / pi), a = 0.044715: the tanh form of GELU.
void gelu(const float* x, index_t n, float* out);
void gelu(const double* x, index_t n, double* out);
/// d_x_i = d_out_i times the derivative at x_i; d_x may be d_out.
void gelu_backward(const float* x, const float* d_out, index_t n, float* d_x);
void gelu_backward(const double* x, const double* d_out, index_t n, double* d_x);

/// out_i = a_i s(a_i) b_i
void gated(const float* a, const float* b, index_t n, float* out);
void gated(const double* a, const double* b, index_t n, double* out);
void gated_backward(const float* a, const float* b, const float* d_out, index_t n, float* d_a, float* d_b);
void gated_backward(const double* a, const double* b, const double* d_out, index_t n, double* d_a,
                    double* d_b);

/// out_i = x_i s(x_i)
void silu(const float* x, index_t n, float* out);
void silu(const double* x, index_t n, double* out);
/// d_x_i = d_out_i times the derivative at x_i; d_x may be d_out.
void silu_backward(const float* x, const float* d_out, index_t n, float* d_x);
void silu_backward(const double* x, const double* d_out, index_t n, double* d_x);

/// row := scale (softmax(row) - e_target), in place. @return -log softmax(row)[target], nats
double cross_entropy(float* row, index_t n, index_t target, float scale);
double cross_entropy(double* row, index_t n, index_t target, double scale);

}  // namespace borel::probe
