import { type Command, HELP } from './command.js'

export function overview(commands: Readonly<Record<string, Command>>): string {
  const rows = Object.entries(commands).map(([name, { summary }]): [string, string] => [name, summary])
  return `tsunagi <command> …\nRestart your Node server; keep every connection.\n\n${table(rows)}\n"tsunagi <command> --help" says more. Exit code 64: what was typed makes no sense.\n`
}

export function helpOf(name: string, command: Command): string {
  const rows = Object.entries({ ...command.options, help: HELP }).map(([option, { short, value, says }]): [string, string] => [
    `${short ? `-${short}, ` : '    '}--${option}${value ? ` ${value}` : ''}`,
    says,
  ])
  return `tsunagi ${name} ${command.usage}\n${command.summary}\n\n${table(rows)}`
}

function table(rows: readonly [string, string][]): string {
  const width = Math.max(...rows.map(([left]) => left.length))
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join('')
}
