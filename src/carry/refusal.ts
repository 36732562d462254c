import { types } from 'node:util'
import { KIND, MAX_ARRAY_LENGTH } from './graph-format.js'
import { className, errorEntries, kindOf, oddProperty } from './plain-data.js'
import type { Reference } from './write-graph.js'

/** Why a value cannot be carried, and how to get from the value to the culprit where that is a property of it. */
export interface Refusal {
  readonly step: string
  readonly why: string
}

/** What the writer only says with a throw, in words. Returns undefined for a value that can be carried. */
export function refusalOf(value: unknown, reference: Reference): Refusal | undefined {
  if (typeof value === 'function') return { step: '', why: 'is a function' }
  if (typeof value === 'symbol') return { step: '', why: 'is a symbol' }
  if (typeof value !== 'object' || value === null) return undefined
  const kind = kindOf(value)
  if (kind === 0) return reference(value) === undefined ? { step: '', why: refusalOfObject(value) } : undefined
  const odd = oddProperty(value, kind)
  return odd && { step: propertyStep(odd.key), why: odd.why }
}

export function unreadable(cause: unknown): Refusal {
  return { step: '', why: `cannot be read: ${cause instanceof Error ? cause.message : String(cause)}` }
}

/** What hangs on a value, each with the step that leads to it as it would be written in JavaScript. */
export function* children(value: object): Generator<readonly [child: unknown, step: () => string]> {
  switch (kindOf(value)) {
    case KIND.object:
    case KIND.nullObject:
      for (const key of Object.keys(value)) yield [(value as Record<string, unknown>)[key], () => propertyStep(key)]
      return
    case KIND.array:
      for (const [index, child] of (value as unknown[]).entries()) yield [child, () => `[${index}]`]
      return
    case KIND.map: {
      let position = 0
      for (const [key, child] of value as Map<unknown, unknown>) {
        const at = position++
        yield [key, () => `.keys()[${at}]`]
        yield [child, () => (isNamed(key) ? `.get(${literal(key)})` : `.values()[${at}]`)]
      }
      return
    }
    case KIND.set: {
      let position = 0
      for (const child of value as Set<unknown>) {
        const at = position++
        yield [child, () => `.values()[${at}]`]
      }
      return
    }
    case KIND.error:
      for (const { key, value: child } of errorEntries(value as Error)) yield [child, () => propertyStep(key)]
      return
    case KIND.view:
      yield [(value as ArrayBufferView).buffer, () => '.buffer']
  }
}

function refusalOfObject(value: object): string {
  if (types.isProxy(value)) return 'is a Proxy; carry the object behind it'
  if (Array.isArray(value) && Object.getPrototypeOf(value) === Array.prototype) {
    return `is an array of length ${value.length}; at most ${MAX_ARRAY_LENGTH} can be carried`
  }
  if ((value as { resizable?: unknown }).resizable === true) return 'is a resizable ArrayBuffer; carry one of fixed length'
  const name = className(value)
  if (name === '') return 'is an object with a prototype of its own; carry a plain object'
  // Told by its brand or by identity with a global: only for a class of the application is there another way.
  if ((globalThis as Record<string, unknown>)[name] === value.constructor) return `is a ${name}, which cannot leave its process`
  return `is an instance of class ${name}; carry plain data and build the ${name} from it`
}

function isNamed(key: unknown): key is string | number | boolean | bigint {
  return typeof key === 'string' || typeof key === 'number' || typeof key === 'boolean' || typeof key === 'bigint'
}

function literal(key: string | number | boolean | bigint): string {
  if (typeof key === 'string') return JSON.stringify(key.length > 40 ? `${key.slice(0, 40)}…` : key)
  return typeof key === 'bigint' ? `${key}n` : String(key)
}

function propertyStep(key: string | symbol): string {
  if (typeof key === 'symbol') return `[${String(key)}]`
  return /^[A-Za-z_$][\w$]*$/.test(key) && key.length <= 40 ? `.${key}` : `[${literal(key)}]`
}
