//! A node's account of its cluster.

use super::{Plan, start, start_some, until};

#[tokio::test]
async fn nodes_are_found_with_their_addresses() {
    let served = start(Plan { nodes: 3, replica_count: 2, ..Plan::default() }).await;
    let plain: String = served.iter().map(|node| node.http_address.clone() + "\n").collect();
    for node in &served {
        until(async || node.http("GET", "/_nodes_discovery_plain", "").await.text() == plain).await;
        let nodes = node.http("GET", "/_nodes_discovery", "").await.json();
        for (index, other) in served.iter().enumerate() {
            assert_eq!(nodes[index]["Host"], other.address.as_str());
            assert_eq!(nodes[index]["ApiHost"], other.http_address.as_str());
            assert_eq!((&nodes[index]["Id"], &nodes[index]["Status"]), (&(index + 1).into(), &1.into()));
        }
        assert_eq!(node.http("GET", "/_health", "").await.status, 200);
    }
    let status = served[0].http("GET", "/_cluster_status", "").await.json();
    assert_eq!(status["keys"]["count"], 3);
    assert_eq!(status["members"]["members"][2]["clientURLs"][0], format!("http://{}", served[2].http_address));
    let placement = served[0].http("GET", "/v1/tables/default/placement/some/key", "").await.json();
    let hosts = served[1].http("GET", "/_nodes/some/key", "").await.json();
    assert_eq!(placement["replicas"].as_array().unwrap().len(), 2);
    assert_eq!(placement["replicas"][0]["address"], hosts[0]);
    assert_eq!(placement["replicas"][1]["address"], hosts[1]);
    let tables = served[0].http("GET", "/v1/tables", "").await.json();
    assert_eq!(tables["tables"][0]["table"], "default");
    assert_eq!(served[0].http("PUT", "/v1/tables/default", "").await.status, 204);
    let unknown = served[0].http("DELETE", "/_nodes/delete/9", "").await;
    assert_eq!((unknown.status, unknown.text().as_str()), (404, "The node was not found"));
    let members = served[0].http("GET", "/v1/members", "").await.json();
    assert_eq!(
        (&members["number"], &members["changing"], &members["replica_count"]),
        (&0.into(), &false.into(), &2.into())
    );
    assert_eq!(members["members"].as_array().unwrap().len(), 3);
    assert_eq!(served[0].http("POST", "/v1/members/abort", "").await.problem(), (409, "members-refused".to_owned()));
    assert_eq!(served[0].http("POST", "/v1/members/abort?expected=7", "").await.problem().1, "members-changed");
    let removed = served[0].http("DELETE", "/_nodes/delete/2", "").await;
    assert_eq!((removed.status, &removed.json()["number"]), (202, &1.into()));
}

#[tokio::test]
async fn node_that_does_not_serve_says_so() {
    let served = start_some(Plan { nodes: 3, replica_count: 3, ..Plan::default() }, 1).await.remove(0);
    assert_eq!(served.http("GET", "/_health", "").await.problem(), (503, "not-ready".to_owned()));
    let nodes = served.http("GET", "/_nodes_discovery", "").await.json();
    assert_eq!((&nodes[0]["Status"], &nodes[1]["Status"]), (&0.into(), &(-1).into()));
    assert!(nodes[1]["ApiHost"].is_null());
    assert_eq!(served.http("PUT", "/v1/tables/default/keys/k", "v").await.problem().0, 503);
}
