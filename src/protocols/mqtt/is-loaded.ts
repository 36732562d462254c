import { createRequire } from 'node:module'

/** Whether the application has loaded aedes, by Node's table of loaded modules: aedes itself is not in it, what it is made of is. */
export function isAedesLoaded(): boolean {
  return Object.keys(createRequire(process.execPath).cache).some((path) => /[\\/]aedes-packet[\\/]packet\.js$/.test(path))
}
