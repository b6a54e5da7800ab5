// ONNX Runtime's attention operators on the tensors of attention_peers: node onnxruntime_attention.js <folder> <op> <n>
// <heads> <d> <threads> <repetitions> [window]. Prints one JSON line {times_ms, output}. op: gqa (GroupQueryAttention,
// causal; the fastest causal path of the CPU provider) or mha (MultiHeadAttention, not causal).
'use strict';
const fs = require('fs');
const path = require('path');
const [folder, op, n_, heads_, d_, threads_, repetitions_, window_] = process.argv.slice(2);
const [n, heads, d, threads, repetitions] = [n_, heads_, d_, threads_, repetitions_].map(Number);
const ort = require(path.join(process.env.BOREL_PEERS, 'node_modules', 'onnxruntime-node'));

// An ONNX model is a protobuf message; the few fields needed are written by hand, so that no Python package is.
const varint = x => { const out = []; let v = BigInt(x); do { out.push(Number(v & 127n) | (v > 127n ? 128 : 0)); v >>= 7n; } while (v > 0n); return Buffer.from(out); };
const integer = (field, x) => Buffer.concat([varint(field << 3), varint(x)]);
const bytes = (field, b) => { const body = Buffer.isBuffer(b) ? b : Buffer.from(b); return Buffer.concat([varint(field << 3 | 2), varint(body.length), body]); };
const attribute = (name, x) => bytes(5, Buffer.concat([bytes(1, name), integer(3, x), integer(20, 2)]));
const tensor = (field, name, type, shape) =>
    bytes(field, Buffer.concat([bytes(1, name), bytes(2, bytes(1, Buffer.concat([integer(1, type),
        bytes(2, Buffer.concat(shape.map(x => bytes(1, integer(1, x)))))])))]));
const FLOAT = 1, INT32 = 6, MICROSOFT = 'com.microsoft';

function model() {
  const gqa = op === 'gqa', width = heads * d;
  const inputs = gqa ? ['q', 'k', 'v', '', '', 'seqlens_k', 'total'] : ['q', 'k', 'v'];
  const attributes = [attribute('num_heads', heads)];
  if (gqa) attributes.push(attribute('kv_num_heads', heads));
  if (gqa && window_) attributes.push(attribute('local_window_size', Number(window_)));
  const outputs = gqa ? ['o', 'present_k', 'present_v'] : ['o'];
  const node = bytes(1, Buffer.concat([...inputs.map(x => bytes(1, x)), ...outputs.map(x => bytes(2, x)),
      bytes(4, gqa ? 'GroupQueryAttention' : 'MultiHeadAttention'), ...attributes, bytes(7, MICROSOFT)]));
  const rows = [1, n, width];
  const declared = [tensor(11, 'q', FLOAT, rows), tensor(11, 'k', FLOAT, rows), tensor(11, 'v', FLOAT, rows)];
  if (gqa) declared.push(tensor(11, 'seqlens_k', INT32, [1]), tensor(11, 'total', INT32, [1]));
  const results = [tensor(12, 'o', FLOAT, rows)];
  if (gqa) for (const name of ['present_k', 'present_v']) results.push(tensor(12, name, FLOAT, [1, heads, n, d]));
  const graph = Buffer.concat([node, bytes(2, 'attention'), ...declared, ...results]);
  const opset = (domain, version) => bytes(8, Buffer.concat([bytes(1, domain), integer(2, version)]));
  return Buffer.concat([integer(1, 8), bytes(7, graph), opset('', 17), opset(MICROSOFT, 1)]);
}

function read(name) {  // [n, heads, d] is the operators' [1, n, heads * d]
  const b = fs.readFileSync(path.join(folder, name));
  return new ort.Tensor('float32', new Float32Array(b.buffer, b.byteOffset, b.length / 4), [1, n, heads * d]);
}

(async () => {
  const session = await ort.InferenceSession.create(model(), {
    executionProviders: ['cpu'], graphOptimizationLevel: 'all', executionMode: 'sequential',
    intraOpNumThreads: threads, interOpNumThreads: 1});
  const feeds = {q: read('q.f32'), k: read('k.f32'), v: read('v.f32')};
  if (op === 'gqa') {
    feeds.seqlens_k = new ort.Tensor('int32', Int32Array.from([n - 1]), [1]);
    feeds.total = new ort.Tensor('int32', Int32Array.from([n]), [1]);
  }
  let result = await session.run(feeds);
  const times_ms = [];
  for (let i = 0; i < repetitions; ++i) {
    const start = process.hrtime.bigint();
    result = await session.run(feeds);
    times_ms.push(Number(process.hrtime.bigint() - start) / 1e6);
  }
  const output = path.join(folder, `onnxruntime_${op}.f32`);
  fs.writeFileSync(output, Buffer.from(result.o.data.buffer, result.o.data.byteOffset, result.o.data.byteLength));
  console.log(JSON.stringify({times_ms, output}));
})().catch(error => { console.error(String(error)); process.exit(1); });
