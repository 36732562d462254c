import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { misuse } from './errors.js'

/** Kinds of connections that only move when somebody asks: the application may hold state for them that the next process has never seen. */
export const MOVE_KINDS = ['raw', 'ws', 'sse'] as const
export type MoveKind = (typeof MOVE_KINDS)[number]

/**
 * What an application that was not written for this library asks to have moved: `TSUNAGI_MOVE=ws,sse,raw` or `all`, else
 * `"tsunagi": { "move": [...] }` in the package.json nearest to the main module. Read once, at start: the file may be another one later.
 */
export class MoveRule {
  readonly #kinds: ReadonlySet<string>
  readonly #source: string

  constructor(kinds: ReadonlySet<string>, source: string) {
    this.#kinds = kinds
    this.#source = source
  }

  /** Name of the rule that asks for this kind to move, for reports; `undefined` where none does. */
  asksFor(kind: MoveKind): string | undefined {
    return this.#kinds.has(kind) || this.#kinds.has('all') ? this.#source : undefined
  }
}

/** Throws a TypeError ERR_TSUNAGI_OPTION for a kind that does not exist: nobody should believe that it moves. */
export function readMoveRule(environment: NodeJS.ProcessEnv, main: string | undefined): MoveRule {
  const given = environment['TSUNAGI_MOVE']
  if (given !== undefined) {
    const kinds = given.split(',').map((kind) => kind.trim())
    return new MoveRule(checked(kinds.filter(Boolean), 'TSUNAGI_MOVE'), `TSUNAGI_MOVE=${given}`)
  }
  const file = main === undefined ? undefined : nearestPackageJson(realPath(main))
  const move = file === undefined ? undefined : moveOf(file)
  if (move === undefined) return new MoveRule(new Set(), '')
  if (!Array.isArray(move)) throw misuse('ERR_TSUNAGI_OPTION', `"tsunagi.move" in ${file} is an array of ${MOVE_KINDS.join(', ')} or all.`)
  return new MoveRule(checked(move, `"tsunagi.move" in ${file}`), 'package.json')
}

function checked(kinds: unknown[], where: string): ReadonlySet<string> {
  for (const kind of kinds) {
    if (kind !== 'all' && !MOVE_KINDS.includes(kind as MoveKind)) {
      throw misuse('ERR_TSUNAGI_OPTION', `${where} knows ${MOVE_KINDS.join(', ')} and all, not ${JSON.stringify(kind)}.`)
    }
  }
  return new Set(kinds as string[])
}

/** Of the main module, as Node finds it; it may be a folder (`node .`), a link in another one, or without its extension. */
function realPath(main: string): string {
  try {
    return realpathSync(main)
  } catch {
    return main
  }
}

function nearestPackageJson(start: string): string | undefined {
  for (let folder = start; ; folder = dirname(folder)) {
    const file = join(folder, 'package.json')
    if (existsSync(file)) return file
    if (dirname(folder) === folder) return undefined
  }
}

/** A package.json that cannot be read is Node's to complain about. */
function moveOf(file: string): unknown {
  try {
    const { tsunagi } = JSON.parse(readFileSync(file, 'utf8')) as { tsunagi?: { move?: unknown } }
    return tsunagi?.move
  } catch {
    return undefined
  }
}
