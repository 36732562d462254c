import { expect, it } from 'vitest'
import { lazyLoads } from './lazy-loads.js'

it('finds what would be loaded late', () => {
  expect(lazyLoads('a.js', 'const later = () => import("./b.js")')).toEqual(['a.js:1: import("./b.js")'])
  expect(lazyLoads('a.cjs', '\nfunction later() {\n  return require("b")\n}')).toEqual(['a.cjs:3: require("b")'])
  expect(lazyLoads('a.cjs', 'class A { get b() { return createRequire(__filename)("b") } }')).toEqual([
    'a.cjs:1: createRequire(__filename)("b")',
  ])
})

it('lets pass what is loaded at once and what is part of Node', () => {
  expect(lazyLoads('a.cjs', 'const b = require("b"); function later() { return require("node:net") }')).toEqual([])
})
