import { readFileSync, statSync } from 'node:fs'

/** How this process was started, read at load: a process title overwrites it, and the symbolic link of a release is another one later. */
export interface StartCommand {
  readonly args: readonly string[]
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
  /** What of it is about the channel to the process that has forked this one, for whoever keeps its descriptor; Node deletes it. */
  readonly channel: NodeJS.ProcessEnv
}

/** @note proc(5): cmdline and environ are separated by NUL; Node resolves argv[1] and the working directory, the shell's `PWD` keeps the link. */
export function readStartCommand(environment: NodeJS.ProcessEnv): StartCommand {
  const args = initialArguments() ?? [...process.execArgv, ...process.argv.slice(1)]
  const initial = initialEnvironment() ?? { ...environment }
  return {
    args,
    cwd: shownWorkingDirectory(environment),
    get environment() {
      const environment = parse(initial)
      for (const name of [...OURS_ALONE, ...CHANNEL]) delete environment[name]
      return environment
    },
    get channel() {
      return Object.fromEntries(Object.entries(parse(initial)).filter(([name]) => CHANNEL.includes(name)))
    },
  }
}

/** What only a system with /proc tells: options that Node does not list, and the script as it was called. */
function initialArguments(): string[] | undefined {
  try {
    return readFileSync('/proc/self/cmdline', 'utf8').split('\0').slice(1, -1)
  } catch {
    return undefined
  }
}

/** @note proc(5): only root may read it where the executable has capabilities (setcap); then what the environment holds at load must do. */
function initialEnvironment(): Buffer | undefined {
  try {
    return readFileSync('/proc/self/environ')
  } catch {
    return undefined
  }
}

function parse(initial: Buffer | NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  if (!(initial instanceof Uint8Array)) return { ...initial }
  const entries = initial.toString().split('\0').filter(Boolean)
  return Object.fromEntries(entries.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]))
}

export function shownWorkingDirectory({ PWD: shown }: NodeJS.ProcessEnv = process.env): string {
  const real = process.cwd()
  if (shown === undefined || !shown.startsWith('/')) return real
  const [a, b] = [statSync(shown, { throwIfNoEntry: false }), statSync(real)]
  return a?.ino === b.ino && a.dev === b.dev ? shown : real
}

/** They are about descriptors, or a process, that the next version has others of. */
const CHANNEL = ['NODE_CHANNEL_FD', 'NODE_CHANNEL_SERIALIZATION_MODE']
const OURS_ALONE = ['TSUNAGI_TOKEN', 'TSUNAGI_REPORT_FD', 'TSUNAGI_SUPERVISOR_FD']
