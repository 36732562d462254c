import { parseArgs } from 'node:util'
import { VERSION } from '../version.js'
import { type Call, type Command, EXIT, type Output, parseConfig, UsageError } from './command.js'
import { COMMANDS } from './commands.js'
import { helpOf, overview } from './help.js'
import { nearest } from './nearest.js'

/** `tsunagi <command> …`: returns the exit code. */
export async function main(args: readonly string[], output: Output): Promise<number> {
  const [name, ...rest] = args
  try {
    if (name === undefined) throw new UsageError('A command is missing.')
    if (name === '--help' || name === '-h' || name === 'help') return say(output, overview(COMMANDS))
    if (name === '--version' || name === '-v') return say(output, `${VERSION}\n`)
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
    if (command === undefined) throw new UsageError(`There is no command "${name}".${nearest(name, Object.keys(COMMANDS))}`)
    const call = parse(command, rest)
    if (call.options['help']) return say(output, helpOf(name, command))
    return await command.run({ ...call, output })
  } catch (error) {
    const { message } = error as Error
    const isUsage = error instanceof UsageError
    output.err(`tsunagi: ${message}\n${isUsage ? `Try "tsunagi ${COMMANDS[name ?? ''] ? `${name} ` : ''}--help".\n` : ''}`)
    return isUsage ? EXIT.usage : EXIT.failed
  }
}

function parse(command: Command, args: readonly string[]): Omit<Call, 'output'> {
  const options = parseConfig(command)
  const own = command.passesRest ? ownArguments(args, options) : args
  try {
    const { values, positionals } = parseArgs({ args: [...own], options, allowPositionals: true, strict: true })
    const all = [...positionals, ...args.slice(own.length)]
    const most = command.passesRest ? Number.POSITIVE_INFINITY : (command.arguments ?? 0)
    if (all.length > most) throw new UsageError(`"${all[most]}" is one argument too many.`)
    return { options: values as Call['options'], arguments: all }
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new UsageError(reasonOf(error as Error & { code?: string }, own, options))
  }
}

/** Up to and without the first argument that is no option and no option's value. */
function ownArguments(args: readonly string[], options: NonNullable<Parameters<typeof parseArgs>[0]>['options']): readonly string[] {
  const { tokens } = parseArgs({ args: [...args], options: options ?? {}, allowPositionals: true, strict: false, tokens: true })
  const first = tokens.find(({ kind }) => kind === 'positional' || kind === 'option-terminator')
  if (first === undefined) return args
  return args.slice(0, first.kind === 'positional' ? first.index : first.index + 1)
}

/** @note Node's own message goes on about how to pass a positional argument that starts with a dash. */
function reasonOf(error: Error & { code?: string }, args: readonly string[], options: object): string {
  if (error.code !== 'ERR_PARSE_ARGS_UNKNOWN_OPTION') return error.message.split('. ')[0] as string
  const unknown = args.find((arg) => arg.startsWith('-') && error.message.includes(`'${arg.split('=')[0]}'`))?.split('=')[0] ?? ''
  return `There is no option ${unknown}.${nearest(
    unknown,
    Object.keys(options).map((name) => `--${name}`),
  )}`
}

function say(output: Output, text: string): number {
  output.out(text)
  return EXIT.ok
}
