import { TsunagiError } from '../errors.js'
import type { Declaration, DecodeOptions, RestoredRoot } from './decode-graph.js'
import type { Shell } from './read-nodes.js'
import type { ReadRoot } from './read-roots.js'
import { type Container, containerKind, type Pour, refillPlan } from './refill.js'

/** What a migration made of a value, so that two roots that share the value share the result. */
interface Migrated {
  readonly migrate: Declaration['migrate']
  readonly fromVersion: number
  readonly result: unknown
  value: unknown
}

/**
 * Brings what the predecessor carried and what this code declared together: which object a reference to a root leads to, which values
 * are migrated, what is poured into which live container at commit.
 */
export class RootSettler {
  /** To be done at commit, in this order. */
  readonly pours: Pour[] = []
  readonly #roots: readonly ReadRoot[]
  readonly #options: DecodeOptions
  readonly #declarations = new Map<string, Declaration>()
  /** By the content of a root: the object that stands for it everywhere. */
  readonly #standIns = new Map<unknown, object>()
  /** Stand-ins made here, for values without a live container that a migration may replace. */
  readonly #fresh = new Map<object, Container>()
  readonly #migrated = new Map<unknown, Migrated>()

  constructor(roots: readonly ReadRoot[], options: DecodeOptions) {
    this.#roots = roots
    this.#options = options
    for (const root of roots) this.#declare(root)
  }

  /** The nodes as references see them. To be called before the containers are filled. */
  replaceRoots(shells: readonly Shell[]): readonly unknown[] {
    return this.#standIns.size === 0 ? shells : shells.map((shell) => this.#standIns.get(shell) ?? shell)
  }

  /** To be called once the containers are filled. */
  settle(): Map<string, RestoredRoot> {
    // So that a migration that follows a reference back to its own value finds something there.
    for (const [standIn, content] of this.#fresh) refillPlan('', standIn, content)()
    const restored = new Map<string, RestoredRoot>()
    for (const root of this.#roots) restored.set(root.key, this.#settleRoot(root))
    return restored
  }

  #declare({ key, version, content }: ReadRoot): void {
    const declaration = this.#options.declared(key)
    if (declaration === undefined) return
    this.#declarations.set(key, declaration)
    const mustMigrate = declaration.version !== version
    if (mustMigrate && declaration.migrate === undefined) {
      const versions = `has version ${version} in the predecessor, this code has version ${declaration.version}`
      throw this.#error('ERR_TSUNAGI_STATE_VERSION', key, `${versions} and no migrate function`)
    }
    const kind = containerKind(content)
    if (kind === undefined || this.#standIns.has(content)) return
    if (declaration.live !== undefined) {
      this.#standIns.set(content, declaration.live)
    } else if (mustMigrate) {
      const standIn = emptyLike(content as Container)
      this.#standIns.set(content, standIn)
      this.#fresh.set(standIn, content as Container)
    }
  }

  #settleRoot({ key, version, content }: ReadRoot): RestoredRoot {
    const declaration = this.#declarations.get(key)
    const standIn = this.#standIns.get(content)
    if (declaration === undefined) return { value: standIn ?? content, version, fromVersion: version }
    const migrated = declaration.version === version ? undefined : this.#migrate(key, version, content, declaration)
    const settled = { version: declaration.version, fromVersion: version }
    if (declaration.live !== undefined) {
      this.pours.push(this.#plan(key, declaration.live, migrated === undefined ? content : migrated.result))
      if (migrated !== undefined && standIn === declaration.live) migrated.value = standIn
      return { value: declaration.live, ...settled }
    }
    if (migrated === undefined) return { value: standIn ?? content, ...settled }
    if (standIn !== undefined && this.#fresh.delete(standIn) && containerKind(migrated.result) === containerKind(standIn)) {
      this.#plan(key, standIn, migrated.result)()
      migrated.value = standIn
    }
    return { value: migrated.value, ...settled }
  }

  #migrate(key: string, version: number, content: unknown, { migrate, version: to }: Declaration): Migrated {
    const before = this.#migrated.get(content)
    const isShared = containerKind(content) !== undefined && before?.migrate === migrate && before?.fromVersion === version
    if (isShared) return before as Migrated
    const doing = `could not be migrated from version ${version} to ${to}`
    let result: unknown
    try {
      result = migrate?.(content, version)
    } catch (cause) {
      throw this.#error('ERR_TSUNAGI_MIGRATE', key, `${doing}: migrate threw ${String(cause)}`, cause)
    }
    if (result instanceof Promise) {
      result.catch(() => {}) // reported here; nobody else will look at it
      throw this.#error('ERR_TSUNAGI_MIGRATE', key, `${doing}: migrate returned a Promise, and connections wait; return the value`)
    }
    if (result === undefined && content !== undefined) {
      throw this.#error('ERR_TSUNAGI_MIGRATE', key, `${doing}: migrate returned undefined; return the value`)
    }
    const migrated = { migrate, fromVersion: version, result, value: result }
    this.#migrated.set(content, migrated)
    return migrated
  }

  #plan(key: string, live: object, content: unknown): Pour {
    try {
      return refillPlan(this.#name(key), live, content)
    } catch (error) {
      throw error instanceof TsunagiError ? Object.assign(error, { key }) : error
    }
  }

  #error(code: 'ERR_TSUNAGI_STATE_VERSION' | 'ERR_TSUNAGI_MIGRATE', key: string, text: string, cause?: unknown): TsunagiError {
    return Object.assign(new TsunagiError(code, `${this.#name(key)} ${text}`, { cause }), { key })
  }

  #name(key: string): string {
    return this.#options.name?.(key) ?? key
  }
}

function emptyLike(content: Container): Container {
  if (Array.isArray(content)) return []
  if (content instanceof Map) return new Map()
  if (content instanceof Set) return new Set()
  return Object.create(Object.getPrototypeOf(content) as object | null) as Record<string, unknown>
}
