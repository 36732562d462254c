import type { Command } from './command.js'
import { doctor } from './doctor.js'
import { reload } from './reload.js'
import { run } from './run.js'
import { status } from './status.js'

/** Every subcommand by its name, in the order of `tsunagi --help`. */
export const COMMANDS: Readonly<Record<string, Command>> = { run, reload, status, doctor }
