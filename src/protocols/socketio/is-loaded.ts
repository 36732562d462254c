import { createRequire } from 'node:module'

/** Whether the application has loaded engine.io, of which socket.io is made; by Node's table of loaded modules. */
export function isEngineIoLoaded(): boolean {
  return Object.keys(createRequire(process.execPath).cache).some((path) => /[\\/]engine\.io[\\/]build[\\/]server\.js$/.test(path))
}
