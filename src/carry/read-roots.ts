import { type ByteReader, malformed } from './byte-reader.js'
import { ABSENT, type Shell } from './read-nodes.js'
import { HOLE, readValue } from './read-value.js'

/** A root as it came, its containers not yet filled. */
export interface ReadRoot {
  readonly key: string
  readonly version: number
  /** The fresh value; null where it was a socket that is absent. */
  readonly content: unknown
}

export function readRoots(count: number, reader: ByteReader, shells: readonly Shell[]): ReadRoot[] {
  const roots: ReadRoot[] = []
  const keys = new Set<string>()
  for (let i = 0; i < count; i++) {
    const key = readValue(reader, shells)
    const version = readValue(reader, shells)
    const content = readValue(reader, shells)
    if (typeof key !== 'string' || keys.has(key)) throw malformed('a root has no key or that of another')
    if (typeof version !== 'number' || !Number.isSafeInteger(version) || version < 0) throw malformed('a root has no version')
    if (content === HOLE) throw malformed('a root has no value')
    keys.add(key)
    roots.push({ key, version, content: content === ABSENT ? null : content })
  }
  reader.finish('roots')
  return roots
}
