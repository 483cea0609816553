import assert from "node:assert/strict";
import test from "node:test";
import { clean, DEFAULTS, format, parse } from "../../docs/assets/js/state.mjs";

test("the default state has an empty address", () => assert.equal(format({ ...DEFAULTS }), ""));

test("a state survives its own address", () => {
  const state = { ...DEFAULTS, g: "t4", t: "code", c: 1, m: "qlora", s: 4096, b: 0, k: 0, a: 64, e: 2.5, x: "a,b", w: "qwen3-8b" };
  assert.deepEqual(parse(format(state)), state);
});

test("an address from a stranger is cut down to what makes sense", () => {
  const state = parse("?g=<script>&s=99999999999&b=-4&m=magic&a=1e9&x=ok,..%2Fbad,ok&l=zz%22&unknown=1&e=NaN");
  assert.equal(state.g, DEFAULTS.g);
  assert.equal(state.s, 131072);
  assert.equal(state.b, 0);
  assert.equal(state.m, "auto");
  assert.equal(state.a, 256);
  assert.equal(state.x, "ok");
  assert.equal(state.l, "");
  assert.equal(state.e, DEFAULTS.e);
});

test("at most four models are compared", () => assert.equal(clean("x", "a,b,c,d,e"), "a,b,c,d"));
