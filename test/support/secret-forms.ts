import { inspect } from "node:util";

/** The forms in which others' errors hold a secret. */
export function secretForms(secret: string): string[] {
    const json = (value: object): string => JSON.stringify(value);
    return [
        // Names in one word, as JSON, as an object shows, in a query or a form, and in JSON within JSON.
        json({ accessToken: secret, refreshToken: secret, id: 1 }),
        json({ clientSecret: secret }),
        json({ nested: json({ accessToken: `a "${secret}" \\`, refreshToken: secret }) }),
        inspect({ apiKey: secret, auth: { user: "a", pass: secret } }),
        inspect(new Map([["x-api-key", secret]])),
        encodeURIComponent(json({ accessToken: secret })),
        `clientSecret=${secret}`,
        `userPassword="a ${secret}"`,
        `accesstoken=${secret}&a=b`,
        `GOOGLE_KEY = ${secret}`,
        `/maps/api?key=${secret}&size=1`,
        // Cookies.
        `Cookie: sid=${secret}`,
        `Cookie: a=${secret}; b=${secret}; c="${secret}"`,
        `cookie: theme=dark; my-own-name=${secret}`,
        `Set-Cookie: one=${secret}; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT; HttpOnly, two=${secret}; Secure`,
        json({ cookie: `a=${secret}; b=${secret}` }),
        json({ "set-cookie": [`a=${secret}; Path=/`, `b=${secret}`] }),
        inspect({ headers: { "Set-Cookie": [`a=${secret}; Path=/`, `b=${secret}`] } }),
        // Lines of headers.
        `X-API-Key: ${secret}`,
        `x-api-key:${secret}`,
        `X-Auth-Token: ${secret}`,
        `authorization: ${secret}`,
        `Authorization: Token ${secret}`,
        `Authorization: Own-Scheme ${secret}`,
        `Proxy-Authorization: Digest username="a b", nonce="${secret}", response="${secret}"`,
        `authorization=Token ${secret}`,
        `curl -H "Authorization: Bot ${secret}"`,
        `token: ${secret}`,
        `password: ${secret}`,
        `{"token":[1],"X-Api-Key":"${secret}"}`,
        // In addresses.
        `wss://user:${secret}@chat.example.org/socket`,
        `wss://chat.example.org/socket?anything=${secret}`,
        `redis://:${secret}@localhost:6379/0`,
        `amqp+tls://user:a@${secret}@queue.example.org`,
        `https://a.example.org/x;jsessionid=${secret}/y`,
        `/x;jsessionid=${secret}?a=b`,
        // What is a secret by its own shape.
        ...["xoxb-1-", "xoxp-1-", "xapp-1-", "syt_YWxpY2U_", "ghp_", "github_pat_", "glpat-"].map(
            (shape) => `got ${shape}${secret}`,
        ),
        `https://a.example.org/x/xoxb-1-${secret}/y`,
        `with eyJhbGci${secret}.eyJzdWIi${secret}.${secret}_${secret}`,
    ];
}

/** Cut off, as errors quote the beginning of an answer: whatever has quotes and comes after it would end it. */
export function cutOff(secret: string): string[] {
    return [
        `{"id":1,"accessToken":"${secret}`,
        `{ refreshToken: '${secret} it`,
        `{\\"accessToken\\":\\"${secret}`,
        `Cookie: a=b; sid=${secret}`,
        `wss://a.example.org/socket?x=${secret}`,
        `token="a ${secret}`,
    ];
}
