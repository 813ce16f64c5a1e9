//! Who answers the socket's requests, on its thread.

use std::time::Instant;

use log::Level;
use vmm::command::Command;
use vmm::metrics::Process;

use super::http::{Answer, Method, Request, Response, Service};
use super::request::{Call, Parsed};
use super::route;
use super::{count, reply};
use crate::session::{Caller, Reply};

/// The API of one VM.
pub(crate) struct Api {
    caller: Caller,
    process: Process,
}

impl Api {
    /// The API of the VM that `caller` reaches; what is asked is counted in `process`.
    pub(crate) fn new(caller: Caller, process: Process) -> Self {
        Self { caller, process }
    }

    fn answer(&self, request: &mut Request) -> Answer {
        let row = route::find(request);
        let answer = match route::read(row, request) {
            Ok(parsed) => self.act(parsed),
            Err(fault) => Answer::Response(Response::fault(400, &fault.to_string())),
        };
        if let Some(row) = row
            && let Some((requests, refused)) = count::of(&self.process, row.method, row.path)
        {
            requests.increment();
            if let (Some(refused), Answer::Response(response)) = (refused, &answer)
                && response.status >= 400
            {
                refused.increment();
            }
        }
        answer
    }

    fn act(&self, Parsed { call, deprecated }: Parsed) -> Answer {
        if deprecated {
            self.process
                .deprecated_api
                .deprecated_http_api_calls
                .increment();
        }
        match call {
            Call::Answer(response) => Answer::Response(response),
            Call::Events => Answer::Stream,
            Call::Command(command) => {
                Answer::Response(self.ask(command).with_deprecation(deprecated))
            }
            Call::Fateful(command) => {
                let reply = self.caller.call(command);
                let is_fatal = matches!(&reply, Some(Err(error)) if error.is_fatal());
                let response = response(reply).with_deprecation(deprecated);
                match is_fatal {
                    true => Answer::Last(response),
                    false => Answer::Response(response),
                }
            }
        }
    }

    fn ask(&self, command: Command) -> Response {
        let latencies = &self.process.latencies_us;
        let latency = match command {
            Command::Pause => Some(&latencies.pause_vm),
            Command::Resume => Some(&latencies.resume_vm),
            _ => None,
        };
        match latency {
            Some(latency) => latency.time(|| response(self.caller.call(command))),
            None => response(self.caller.call(command)),
        }
    }
}

fn response(reply: Reply) -> Response {
    match reply {
        Some(result) => reply::reply(result),
        None => Response::fault(400, "Internal VMM error: the guest has ended"),
    }
}

impl Service for Api {
    fn call(&mut self, mut request: Request) -> Answer {
        let began = Instant::now();
        log_request(&request);
        let (peer, query, accept) = (request.peer, &request.query, &request.accept);
        log::trace!("asked by {peer:?}, query {query:?}, accepts {accept:?}");
        let answer = self.answer(&mut request);
        match &answer {
            Answer::Response(response) | Answer::Last(response) => log_response(response),
            Answer::Stream => log::info!("An event stream begins."),
        }
        log::debug!(
            "Total previous API call duration: {} us.",
            began.elapsed().as_micros()
        );
        answer
    }
}

/// The line that tools look for. What is put into the metadata service is nobody's business.
fn log_request(request: &Request) {
    if !log::log_enabled!(Level::Info) {
        return;
    }
    let method = match request.method {
        Method::Get => "Get",
        Method::Put => "Put",
        Method::Patch => "Patch",
        Method::Delete => "Delete",
    };
    let path = &request.path;
    if request.body.is_empty() || path.starts_with("/mmds") {
        log::info!("The API server received a {method} request on {path:?}.");
    } else {
        let body = String::from_utf8_lossy(&request.body);
        log::info!("The API server received a {method} request on {path:?} with body {body:?}.");
    }
}

fn log_response(response: &Response) {
    match response.status {
        200 => log::info!("The request was executed successfully. Status code: 200 OK."),
        204 => log::info!("The request was executed successfully. Status code: 204 No Content."),
        status => {
            let reason = match status {
                400 => "Bad Request",
                413 => "Payload Too Large",
                _ => "Internal Server Error",
            };
            let message = String::from_utf8_lossy(&response.body);
            log::error!("Received Error. Status code: {status} {reason}. Message: {message}");
        }
    }
}
