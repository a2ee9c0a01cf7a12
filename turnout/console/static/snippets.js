// @ts-check
// A request as commands and programs to copy: curl, Python, tritonclient, JavaScript.
import { readJson, spell } from './json.js';

/** @typedef {{path: string, text: string, auth: string, headers: [string, string][], isFile: boolean}} Call */

const FILE = 'request.json';

/** A call as programs; those that cannot make it are left out. @param {Call} call @returns {[string, string][]} */
export function snippets(call) {
  /** @type {any} */
  let request = null;
  try {
    request = readJson(call.text);
  } catch {
    return [];
  }
  const url = location.origin + call.path;
  const programs = /** @type {[string, string][]} */ ([['curl', curl(url, call)], ['Python', python(url, call, request)]]);
  const inputs = request?.inputs;
  if (!call.isFile && Array.isArray(inputs) && inputs.every((/** @type {any} */ input) => Array.isArray(input?.data) && Array.isArray(input.shape))) programs.push(['tritonclient', triton(call, inputs)]);
  if (call.auth !== 'iam') programs.push(['JavaScript', javascript(url, call)]);
  return programs;
}

/** @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** @param {string} url @param {Call} call */
function curl(url, { text, auth, headers, isFile }) {
  const options = headers.map(([name, value]) => ` -H ${quoted(`${name}: ${value}`)}`);
  if (auth === 'api_key') options.push(' -H "x-api-key: $TURNOUT_API_KEY"');
  if (auth === 'jwt') options.push(' -H "authorization: Bearer $TURNOUT_TOKEN"');
  if (auth === 'iam') options.push(' --aws-sigv4 "aws:amz:$AWS_REGION:execute-api" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"');
  return `curl -sS ${quoted(url)} -H 'content-type: application/json'${options.join('')} ${isFile ? `--data-binary @${FILE}` : `-d ${quoted(text)}`}`;
}

/** The entries of a dict of headers, with keys and tokens from the environment. @param {Call} call @param {string} environment */
function entries({ auth, headers }, environment) {
  const all = [`"content-type": "application/json"`, ...headers.map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`)];
  if (auth === 'api_key') all.push(`"x-api-key": ${environment.replace('NAME', 'TURNOUT_API_KEY')}`);
  if (auth === 'jwt') all.push(`"authorization": "Bearer " + ${environment.replace('NAME', 'TURNOUT_TOKEN')}`);
  return all.join(', ');
}

/** @param {string} url @param {Call} call @param {any} request */
function python(url, call, request) {
  const body = call.isFile ? `open("${FILE}", "rb").read()` : `json.dumps(${pythonOf(request)}).encode()`;
  const signed = call.auth === 'iam';
  return [
    'import json', 'import os', 'import urllib.request', ...(signed ? ['', 'from botocore.auth import SigV4Auth', 'from botocore.awsrequest import AWSRequest', 'from botocore.session import Session'] : []), '',
    `body = ${body}`, `headers = {${entries(call, 'os.environ["NAME"]')}}`,
    ...(signed ? ['session = Session()', `signed = AWSRequest("POST", ${JSON.stringify(url)}, headers, body)`, 'SigV4Auth(session.get_credentials(), "execute-api", session.get_config_variable("region")).add_auth(signed)', 'headers = dict(signed.prepare().headers)'] : []),
    `request = urllib.request.Request(${JSON.stringify(url)}, body, headers)`,
    'with urllib.request.urlopen(request) as response:', '    print(json.dumps(json.load(response)))',
  ].filter((line) => line !== 'import os' || call.auth === 'api_key' || call.auth === 'jwt').join('\n');
}

/** @param {Call} call @param {any[]} inputs */
function triton(call, inputs) {
  const [, stage, , model, version] = call.path.split('/').map(decodeURIComponent);
  const tensors = inputs.flatMap((input, index) => [
    `input${index} = triton.InferInput(${JSON.stringify(input.name)}, ${JSON.stringify(input.shape)}, "${input.datatype}")`,
    `input${index}.set_data_from_numpy(np.array(${pythonOf(input.data.flat(Infinity))}, triton_to_np_dtype("${input.datatype}")).reshape(${JSON.stringify(input.shape)}))`,
  ]);
  const auth = call.auth === 'api_key' || call.auth === 'jwt';
  const names = inputs.map((_, index) => `input${index}`).join(', ');
  return [
    ...(auth ? ['import os', ''] : []), 'import numpy as np', 'import tritonclient.http as triton', 'from tritonclient.utils import triton_to_np_dtype', '',
    `client = triton.InferenceServerClient("${location.host}/${stage}")`, ...tensors,
    `answer = client.infer(${JSON.stringify(model)}, [${names}]${version === 'inference' ? '' : `, model_version=${JSON.stringify(version)}`}${auth || call.headers.length ? `, headers={${entries(call, 'os.environ["NAME"]').replace('"content-type": "application/json", ', '')}}` : ''})`,
    'for output in answer.get_response()["outputs"]:', '    print(output["name"], answer.as_numpy(output["name"]))',
  ].join('\n');
}

/** @param {string} url @param {Call} call */
function javascript(url, call) {
  // The body is a text: an object would round integers of 64 bits.
  const body = call.isFile ? `readFileSync('${FILE}')` : JSON.stringify(call.text);
  return [
    ...(call.isFile ? ["const { readFileSync } = await import('node:fs');"] : []),
    `const response = await fetch(${JSON.stringify(url)}, {`, "  method: 'POST',", `  headers: { ${entries(call, 'process.env.NAME')} },`, `  body: ${body},`, '});',
    'console.log(await response.text());',
  ].join('\n');
}

/** A value as a literal of Python. @param {any} value @returns {string} */
function pythonOf(value) {
  if (value === null) return 'None';
  if (Array.isArray(value)) return `[${value.map(pythonOf).join(', ')}]`;
  if (typeof value === 'object') return `{${Object.entries(value).map(([name, part]) => `${JSON.stringify(name)}: ${pythonOf(part)}`).join(', ')}}`;
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  return spell(value);
}
