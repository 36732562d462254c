import { readFileSync } from 'node:fs'
import { importSnapshot } from '../cold/import-snapshot.js'
import { createEnv } from '../env.js'
import { type Command, EXIT, UsageError } from './command.js'
import { requireNative } from './require-native.js'

export const restore: Command = {
  summary: 'takes a snapshot that `tsunagi snapshot --to` has made: the next start of its address on this machine restores it',
  usage: '<file | ->',
  arguments: 1,
  options: {},
  run({ arguments: [file], output }) {
    if (file === undefined) throw new UsageError('A file is missing, or - for standard input.')
    const { bequest, holdMs } = importSnapshot(createEnv(requireNative()), readFileSync(file === '-' ? 0 : file))
    const left = Math.max(0, Math.round((bequest.leftAt + holdMs - Date.now()) / 1000))
    output.out(
      `${bequest.connections} connections of ${bequest.listeners.map(({ key }) => key).join(', ')} wait here, and their packets are held: start the server within ${left} s\n`,
    )
    return EXIT.ok
  },
}
