import { TsunagiError } from '../errors.js'
import { KIND } from './graph-format.js'
import { className, isAccessor, kindOf } from './plain-data.js'

/** What can be refilled in place, so that whoever holds it sees the carried state. */
export type Container = Record<string, unknown> | unknown[] | Map<unknown, unknown> | Set<unknown>

type ContainerKind = 'a plain object' | 'an array' | 'a Map' | 'a Set'

/** Pours what `refillPlan` has checked. Cannot throw, and the second time does nothing. */
export type Pour = () => void

/** The kind of a container, undefined for any other value. */
export function containerKind(value: unknown): ContainerKind | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  switch (kindOf(value)) {
    case KIND.object:
    case KIND.nullObject:
      return 'a plain object'
    case KIND.array:
      return 'an array'
    case KIND.map:
      return 'a Map'
    case KIND.set:
      return 'a Set'
    default:
      return undefined
  }
}

/** How a value is called in an error about its kind. */
export function describeKind(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (typeof value !== 'object') return `a ${typeof value}`
  return containerKind(value) ?? `an instance of ${className(value) || 'an unnamed class'}`
}

/**
 * Checks that `live` can take what `content` holds, and returns the act of doing it. The checks are everything that could fail later:
 * two kinds, a frozen container, a property that cannot be replaced.
 *
 * Properties of `live` that are not enumerable or have a symbol as their key stay: they are never carried, so they are the program's own.
 * So does an enumerable one that cannot be deleted and is not carried.
 */
export function refillPlan(name: string, live: object, content: unknown): Pour {
  const kind = containerKind(live)
  if (kind === undefined || kind !== containerKind(content)) {
    const action = `${name} was ${describeKind(content)} in the predecessor and is ${describeKind(live)} here`
    throw new TsunagiError('ERR_TSUNAGI_STATE_SHAPE', `${action}; give it a new version and a migrate function`)
  }
  if (live === content) return () => {}
  const pour = pourOf(name, live as Container, content as Container)
  let poured = false
  return () => {
    if (poured) return
    poured = true
    pour()
  }
}

function pourOf(name: string, live: Container, content: Container): Pour {
  if (live instanceof Map) return () => pourMap(live, content as Map<unknown, unknown>)
  if (live instanceof Set) return () => pourSet(live, content as Set<unknown>)
  if (!Object.isExtensible(live)) {
    throw new TsunagiError('ERR_TSUNAGI_STATE_SHAPE', `${name} is frozen or sealed here, so that carried state cannot be poured into it`)
  }
  const keys = Array.isArray(live) ? Object.keys(live) : [...Object.keys(live), ...Object.keys(content)]
  const stuck = keys.find((key) => !canBeReplaced(live, key, Object.hasOwn(content, key)))
  if (stuck !== undefined || (Array.isArray(live) && Object.getOwnPropertyDescriptor(live, 'length')?.writable !== true)) {
    const what = stuck === undefined ? 'length' : `property ${JSON.stringify(stuck)}`
    throw new TsunagiError(
      'ERR_TSUNAGI_STATE_SHAPE',
      `${name} has a ${what} that cannot be replaced, so that carried state cannot be poured into it`,
    )
  }
  if (Array.isArray(live)) return () => pourArray(live, content as unknown[])
  return () => pourObject(live, content as Record<string, unknown>)
}

function pourMap(live: Map<unknown, unknown>, content: Map<unknown, unknown>): void {
  live.clear()
  for (const [key, value] of content) live.set(key, value)
}

function pourSet(live: Set<unknown>, content: Set<unknown>): void {
  live.clear()
  for (const member of content) live.add(member)
}

function pourArray(live: unknown[], content: unknown[]): void {
  live.length = 0
  for (const [index, value] of content.entries()) if (value !== undefined || Object.hasOwn(content, index)) live[index] = value
  live.length = content.length
}

function pourObject(live: Record<string, unknown>, content: Record<string, unknown>): void {
  for (const key of Object.keys(live)) Reflect.deleteProperty(live, key)
  for (const key of Object.keys(content)) {
    // Defined, not assigned: neither a setter of `Object.prototype` (`__proto__`) nor one of the program may run.
    Reflect.defineProperty(live, key, { value: content[key], writable: true, enumerable: true, configurable: true }) ||
      Reflect.defineProperty(live, key, { value: content[key] })
  }
}

function canBeReplaced(live: object, key: string, isCarried: boolean): boolean {
  const property = Object.getOwnPropertyDescriptor(live, key)
  if (property === undefined || property.configurable === true) return true
  if (Array.isArray(live)) return false
  return !isCarried || (property.writable === true && !isAccessor(live, key))
}
