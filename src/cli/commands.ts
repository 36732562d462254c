import type { Command } from './command.js'
import { doctor } from './doctor.js'
import { inspect } from './inspect.js'
import { reload } from './reload.js'
import { restore } from './restore.js'
import { run } from './run.js'
import { snapshot } from './snapshot.js'
import { status } from './status.js'

/** Every subcommand by its name, in the order of `tsunagi --help`. */
export const COMMANDS: Readonly<Record<string, Command>> = { run, reload, status, doctor, snapshot, restore, inspect }
