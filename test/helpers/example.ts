import { fileURLToPath } from 'node:url'
import { REGISTER } from './plain.js'
import { Line, type Settings } from './process.js'

/** An example under register; its first process listens. What it prints is for people, and only JSON is read by a line. */
export async function startExample(path: string, env: NodeJS.ProcessEnv): Promise<Line> {
  const print = 'data:text/javascript,console.log=(l)=>process.stdout.write(JSON.stringify({event:"said",l})+"\\n")'
  const settings: Settings = { node: [...REGISTER, '--import', print], env }
  const line = await Line.empty(fileURLToPath(new URL(`../../examples/${path}`, import.meta.url)), settings)
  await line.launch().until('said')
  return line
}
