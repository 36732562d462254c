import { types } from 'node:util'
import { ERROR_TYPES, KIND, MAX_ARRAY_LENGTH, VIEW_TYPES } from './graph-format.js'

/** Arrays up to this length are looked at for named properties (as a match of a RegExp has); looking at a long one would take as long as carrying it. */
export const MAX_LENGTH_LOOKED_AT = 64

type NamedConstructors = Record<string, { prototype: object } | undefined>

const errorTypeByPrototype = numberByPrototype(ERROR_TYPES)
const viewTypeByPrototype = numberByPrototype(VIEW_TYPES)

const kindByPrototype = new Map<object | null, number>([
  [null, KIND.nullObject],
  [Object.prototype, KIND.object],
  [Array.prototype, KIND.array],
  [Map.prototype, KIND.map],
  [Set.prototype, KIND.set],
  [Date.prototype, KIND.date],
  [RegExp.prototype, KIND.regexp],
  [URL.prototype, KIND.url],
  [Buffer.prototype, KIND.buffer],
  [ArrayBuffer.prototype, KIND.arrayBuffer],
  ...[...errorTypeByPrototype.keys()].map((prototype) => [prototype, KIND.error] as const),
  ...[...viewTypeByPrototype.keys()].map((prototype) => [prototype, KIND.view] as const),
])

/**
 * Which kind of plain data this is, or 0: a class instance, a Proxy, something that a process cannot give away. Decided by the prototype
 * and, where a prototype can be borrowed (`Object.create(Map.prototype)`), by what the object really is.
 */
export function kindOf(value: object): number {
  const prototype: object | null = Object.getPrototypeOf(value)
  if (types.isProxy(value)) return 0
  if (prototype === Object.prototype) return KIND.object
  const kind = kindByPrototype.get(prototype)
  switch (kind) {
    case undefined:
      return 0
    case KIND.array:
      return Array.isArray(value) && value.length <= MAX_ARRAY_LENGTH ? kind : 0
    case KIND.map:
      return types.isMap(value) ? kind : 0
    case KIND.set:
      return types.isSet(value) ? kind : 0
    case KIND.date:
      return types.isDate(value) ? kind : 0
    case KIND.regexp:
      return types.isRegExp(value) ? kind : 0
    case KIND.buffer:
      return types.isUint8Array(value) ? kind : 0
    case KIND.view:
      return ArrayBuffer.isView(value) ? kind : 0
    case KIND.error:
      return types.isNativeError(value) ? kind : 0
    case KIND.arrayBuffer:
      return types.isArrayBuffer(value) && (value as { resizable?: boolean }).resizable !== true ? kind : 0
    default:
      return kind
  }
}

export function errorTypeOf(value: object): number {
  return errorTypeByPrototype.get(Object.getPrototypeOf(value)) ?? 0
}

export function viewTypeOf(value: object): number {
  return viewTypeByPrototype.get(Object.getPrototypeOf(value)) ?? 0
}

/** One property of a carried error. */
export interface ErrorEntry {
  readonly key: string
  readonly value: unknown
  readonly enumerable: boolean
}

/** What an error consists of: its own message, stack, cause and the like, which are not enumerable, and what was added to it (`code`, `errno`). */
export function errorEntries(error: Error): ErrorEntry[] {
  const entries: ErrorEntry[] = []
  for (const key of ['name', 'message', 'stack', 'cause', 'errors'] as const) {
    if (Object.hasOwn(error, key) && !Object.prototype.propertyIsEnumerable.call(error, key)) {
      entries.push({ key, value: (error as unknown as Record<string, unknown>)[key], enumerable: false })
    }
  }
  for (const key of Object.keys(error)) entries.push({ key, value: (error as unknown as Record<string, unknown>)[key], enumerable: true })
  return entries
}

/** A property that makes an otherwise plain object more than data, and why. */
export interface OddProperty {
  readonly key: string | symbol
  readonly why: string
}

/**
 * Looks for properties that carrying would lose or run: getters, symbol keys, named properties of a Map or an array. Properties that are
 * not enumerable are left behind without a word, as by `structuredClone`. The writer checks objects itself while it reads them.
 */
export function oddProperty(value: object, kind: number): OddProperty | undefined {
  switch (kind) {
    case KIND.object:
    case KIND.nullObject:
      return oddKey(value) ?? oddAccessor(value)
    case KIND.error:
      return oddAccessor(value)
    case KIND.array: {
      if ((value as unknown[]).length > MAX_LENGTH_LOOKED_AT) return undefined
      // Index keys come first, so that a named property is the last key.
      const last = Object.keys(value).at(-1)
      return last === undefined || isIndex(last) ? undefined : { key: last, why: 'is a property of an array beside its elements' }
    }
    case KIND.buffer:
    case KIND.view:
      return undefined
    default: {
      const key = Object.keys(value)[0]
      return key === undefined ? undefined : { key, why: `is a property added to a ${className(value)}` }
    }
  }
}

/** The name of a class, without running a getter of it. */
export function className(value: object): string {
  const prototype: object | null = Object.getPrototypeOf(value)
  const type: unknown = prototype === null ? undefined : Object.getOwnPropertyDescriptor(prototype, 'constructor')?.value
  const name: unknown = typeof type === 'function' ? Object.getOwnPropertyDescriptor(type, 'name')?.value : undefined
  return typeof name === 'string' ? name : ''
}

export function isAccessor(value: object, key: string): boolean {
  const property = Object.getOwnPropertyDescriptor(value, key)
  return property !== undefined && !('value' in property)
}

export function hasSymbolKey(value: object): boolean {
  return Object.getOwnPropertySymbols(value).length > 0 && oddKey(value) !== undefined
}

function oddKey(value: object): OddProperty | undefined {
  const key = Object.getOwnPropertySymbols(value).find((symbol) => Object.prototype.propertyIsEnumerable.call(value, symbol))
  return key === undefined ? undefined : { key, why: 'has a symbol as its key, and a symbol means nothing in another process' }
}

function oddAccessor(value: object): OddProperty | undefined {
  const key = Object.keys(value).find((name) => isAccessor(value, name))
  return key === undefined ? undefined : { key, why: 'is a getter or setter; carry the plain value' }
}

function isIndex(key: string): boolean {
  const index = Number(key)
  return String(index) === key && index >= 0 && index < 2 ** 32 - 1 && Number.isInteger(index)
}

function numberByPrototype(names: readonly string[]): Map<object, number> {
  const byPrototype = new Map<object, number>()
  for (const [number, name] of names.entries()) {
    // An older Node lacks some (Float16Array).
    const type = (globalThis as unknown as NamedConstructors)[name]
    if (type !== undefined) byPrototype.set(type.prototype, number)
  }
  return byPrototype
}
