import { ByteWriter, LimitReached } from './byte-writer.js'
import { FIRST_LEAF, KEYS, KIND, MAGIC, TAG } from './graph-format.js'
import { errorEntries, errorTypeOf, hasSymbolKey, isAccessor, kindOf, MAX_LENGTH_LOOKED_AT, oddProperty, viewTypeOf } from './plain-data.js'
import { ShapeTable } from './shape-table.js'

/** Thrown when a value cannot be carried. Which value and how it is reached is worked out afterwards: the writer keeps no paths. */
const REFUSED = Symbol('refused')

export type Reference = (object: object) => number | undefined

/**
 * Writes roots and whatever they reach. Nodes are numbered when they are first met and their bodies written in that order, so that the
 * list of nodes is also the queue and nothing recurses.
 */
export class GraphWriter {
  readonly #limit: number
  readonly #reference: Reference
  readonly #kinds: ByteWriter
  readonly #leaves: ByteWriter
  readonly #roots: ByteWriter
  readonly #bodies: ByteWriter
  readonly #ids = new Map<object, number>()
  readonly #nodes: object[] = []
  readonly #shapes = new ShapeTable()
  #bodiesWritten = 0
  #rootCount = 0

  constructor(limit: number, reference: Reference) {
    this.#limit = limit
    this.#reference = reference
    this.#kinds = new ByteWriter(limit, 4096)
    this.#leaves = new ByteWriter(limit, 4096)
    this.#roots = new ByteWriter(limit, 4096)
    this.#bodies = new ByteWriter(limit, 65536)
  }

  get size(): number {
    return this.#kinds.length + this.#leaves.length + this.#roots.length + this.#bodies.length
  }

  root(key: string, version: number, value: unknown): void {
    this.#rootCount++
    this.#roots.string(key)
    this.#roots.number(version)
    this.#value(this.#roots, value)
    while (this.#bodiesWritten < this.#nodes.length) {
      this.#body(this.#bodiesWritten++)
      if (this.size > this.#limit) throw new LimitReached(this.size)
    }
    if (this.size > this.#limit) throw new LimitReached(this.size)
  }

  finish(): Uint8Array {
    const head = new ByteWriter(64, 64)
    head.raw(Buffer.from(MAGIC))
    head.count(this.#nodes.length)
    head.count(this.#rootCount)
    head.count(this.#leaves.length)
    head.count(this.#roots.length)
    head.count(this.#bodies.length)
    return Buffer.concat([head, this.#kinds, this.#leaves, this.#roots, this.#bodies].map((part) => part.written()))
  }

  #value(into: ByteWriter, value: unknown): void {
    switch (typeof value) {
      case 'string':
        into.string(value)
        break
      case 'number':
        into.number(value)
        break
      case 'object':
        if (value === null) into.byte(TAG.null)
        else into.node(this.#ids.get(value) ?? this.#admit(value))
        break
      case 'boolean':
        into.byte(value ? TAG.true : TAG.false)
        break
      case 'undefined':
        into.byte(TAG.undefined)
        break
      case 'bigint':
        into.bigint(value)
        break
      default:
        throw REFUSED
    }
  }

  #admit(value: object): number {
    const kind = kindOf(value)
    if (kind >= FIRST_LEAF) return this.#leaf(value, kind)
    if (kind === 0) return this.#leaf(value, KIND.reference)
    const id = this.#number(value, kind)
    if (kind === KIND.error) this.#leaves.byte(errorTypeOf(value))
    return id
  }

  #number(value: object, kind: number): number {
    const id = this.#nodes.push(value) - 1
    this.#ids.set(value, id)
    this.#kinds.byte(kind)
    return id
  }

  #leaf(value: object, kind: number): number {
    const into = this.#leaves
    // The buffer under a view is a node of its own and comes first, so that the reader has it when it makes the view.
    const under = kind === KIND.view ? this.#bufferUnder(value as ArrayBufferView) : 0
    const id = this.#number(value, kind)
    if (kind !== KIND.reference && oddProperty(value, kind) !== undefined) throw REFUSED
    switch (kind) {
      case KIND.reference: {
        const index = this.#reference(value)
        if (index === undefined) throw REFUSED
        into.count(index)
        break
      }
      case KIND.date:
        into.float64((value as Date).getTime())
        break
      case KIND.regexp: {
        const { source, flags, lastIndex } = value as RegExp
        into.string(source)
        into.string(flags)
        into.number(Number(lastIndex))
        break
      }
      case KIND.url:
        into.string((value as URL).href)
        break
      case KIND.buffer:
        into.count((value as Buffer).length)
        into.raw(value as Buffer)
        break
      case KIND.arrayBuffer:
        into.count((value as ArrayBuffer).byteLength)
        into.raw(new Uint8Array(value as ArrayBuffer))
        break
      case KIND.view: {
        const view = value as ArrayBufferView & { length?: number }
        into.byte(viewTypeOf(view))
        into.count(under)
        into.count(view.byteOffset)
        into.count(view.length ?? view.byteLength)
      }
    }
    return id
  }

  #bufferUnder(view: ArrayBufferView): number {
    const buffer = view.buffer
    const known = this.#ids.get(buffer)
    if (known !== undefined) return known
    if (kindOf(buffer) !== KIND.arrayBuffer) throw REFUSED
    return this.#leaf(buffer, KIND.arrayBuffer)
  }

  #body(id: number): void {
    const node = this.#nodes[id] as object
    switch (this.#kinds.bytes[id]) {
      case KIND.object:
      case KIND.nullObject:
        this.#object(node as Record<string, unknown>)
        break
      case KIND.array:
        this.#array(node as unknown[])
        break
      case KIND.map:
        this.#map(node as Map<unknown, unknown>)
        break
      case KIND.set:
        this.#set(node as Set<unknown>)
        break
      case KIND.error:
        this.#error(node as Error)
    }
  }

  #object(object: Record<string, unknown>): void {
    const keys = Object.keys(object)
    if (hasSymbolKey(object)) throw REFUSED
    const into = this.#bodies
    const shape = this.#shapes.find(keys)
    if (shape !== undefined) into.count(KEYS.firstShape + shape)
    else {
      into.byte(this.#shapes.add(keys) ? KEYS.newShape : KEYS.inline)
      into.count(keys.length)
      for (const key of keys) into.string(key)
    }
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i] as string
      if (isAccessor(object, key)) throw REFUSED
      this.#value(into, object[key])
    }
  }

  #array(array: unknown[]): void {
    const into = this.#bodies
    const length = array.length
    let elements = length
    into.count(length)
    for (let i = 0; i < length; i++) {
      const value = array[i]
      if (value === undefined && !Object.hasOwn(array, i)) {
        elements--
        into.byte(TAG.hole)
      } else this.#value(into, value)
    }
    if (length <= MAX_LENGTH_LOOKED_AT && Object.keys(array).length > elements) throw REFUSED
  }

  #map(map: Map<unknown, unknown>): void {
    if (oddProperty(map, KIND.map) !== undefined) throw REFUSED
    const into = this.#bodies
    into.count(map.size)
    for (const [key, value] of map) {
      this.#value(into, key)
      this.#value(into, value)
    }
  }

  #set(set: Set<unknown>): void {
    if (oddProperty(set, KIND.set) !== undefined) throw REFUSED
    const into = this.#bodies
    into.count(set.size)
    for (const member of set) this.#value(into, member)
  }

  #error(error: Error): void {
    if (oddProperty(error, KIND.error) !== undefined) throw REFUSED
    const into = this.#bodies
    const entries = errorEntries(error)
    into.count(entries.length)
    for (const { key, value, enumerable } of entries) {
      into.string(key)
      into.byte(enumerable ? TAG.true : TAG.false)
      this.#value(into, value)
    }
  }
}
