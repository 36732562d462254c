import type { ParseArgsConfig } from 'node:util'

/** One subcommand. It prints on `out` what was asked for, on `err` what went wrong, and returns the exit code. */
export interface Command {
  /** One line for `tsunagi --help`. */
  readonly summary: string
  /** What follows the command's name, such as `[options] <script> [argument…]`. */
  readonly usage: string
  readonly options: Readonly<Record<string, CommandOption>>
  /** How many arguments without a dash it takes, at most. @default 0 */
  readonly arguments?: number
  /** The first argument without a dash ends the options: what follows belongs to somebody else. @default false */
  readonly passesRest?: boolean
  run(call: Call): number | Promise<number>
}

export interface CommandOption {
  readonly type: 'string' | 'boolean'
  readonly short?: string
  /** For --help; a value is named in capitals: `--grace SECONDS`. */
  readonly value?: string
  readonly says: string
}

/** One call of a command, as the options table has checked it. */
export interface Call {
  readonly options: Readonly<Record<string, string | boolean | undefined>>
  readonly arguments: readonly string[]
  readonly output: Output
}

export interface Output {
  out(text: string): void
  err(text: string): void
}

/** The caller typed something wrong: the message says what, and the exit code is EX_USAGE. */
export class UsageError extends Error {}

/** @note sysexits.h: EX_USAGE, EX_UNAVAILABLE. */
export const EXIT = { ok: 0, failed: 1, usage: 64, unavailable: 69 } as const

/** A string option, or `undefined` where it is not given. */
export function text({ options }: Call, name: string): string | undefined {
  const value = options[name]
  return typeof value === 'string' ? value : undefined
}

/** A number of seconds, given as an option, in milliseconds. Throws UsageError. */
export function milliseconds(call: Call, name: string, otherwise: number): number {
  const value = text(call, name)
  if (value === undefined) return otherwise
  const seconds = Number(value)
  if (value.trim() === '' || !Number.isFinite(seconds) || seconds < 0)
    throw new UsageError(`--${name} is a number of seconds, 0 or more, not "${value}".`)
  return seconds * 1000
}

/** What node:util's parseArgs takes. */
export function parseConfig({ options }: Command): NonNullable<ParseArgsConfig['options']> {
  return Object.fromEntries(
    Object.entries({ ...options, help: HELP }).map(([name, { type, short }]) => [name, short ? { type, short } : { type }]),
  )
}

export const HELP: CommandOption = { type: 'boolean', short: 'h', says: 'prints this' }
