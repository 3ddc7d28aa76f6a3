//! A blob outlives the gateway that it was brought to.

mod market;

use deepmarket_api::Client;
use deepmarket_gateway::{Gateway, GatewayConfig, GatewayLimits};
use deepmarket_net::{Net, NetConfig, PeerAddress};
use deepmarket_types::{Hash, SecretKey};
use market::Market;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_survives_the_loss_of_the_gateway_that_took_it() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let second_url = format!("http://127.0.0.1:{port}");
    let mut market = Market::start_with(true, vec![second_url.clone()]).await;
    let folder = tempfile::tempdir().unwrap();
    let key = SecretKey::from_seed([77; 32]);
    let net = NetConfig { key, listen: vec![], blobs: folder.path().join("blobs"), chain: market.chain };
    let second = Net::start(net).await.unwrap();
    let stop = CancellationToken::new();
    let config = GatewayConfig {
        listen: format!("127.0.0.1:{port}"),
        validator: "v0".into(),
        genesis: market.genesis.to_toml(),
        market: "local".into(),
        chain: market.chain,
        node: market.node.clone(),
        net: second.clone(),
        data: folder.path().join("data"),
        registrar: None,
        own: second_url.clone(),
        gateways: vec![market.url.clone(), second_url.clone()],
        limits: GatewayLimits::default(),
    };
    let gateway = Gateway::start(config, stop.clone()).await.unwrap();

    let shards: Vec<Vec<u8>> = (0..3_u8).map(|n| vec![n; 200_000]).collect();
    let hashes: Vec<Hash> = shards.iter().map(|shard| market.net.blobs().put(shard).unwrap()).collect();
    let arrived = async {
        while !hashes.iter().all(|hash| second.blobs().has(hash)) {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(2 * market::SOON, arrived).await.expect("two passes take 20 s");

    // The first gateway is lost with its disk.
    market.close_gateway().await;
    for hash in &hashes {
        market.net.blobs().remove(hash).unwrap();
    }
    let client = Client::new(vec![market.url.clone(), second_url]).unwrap();
    let worker_folder = tempfile::tempdir().unwrap();
    let worker = NetConfig {
        key: SecretKey::from_seed([78; 32]),
        listen: vec![],
        blobs: worker_folder.path().join("blobs"),
        chain: market.chain,
    };
    let worker = Net::start(worker).await.unwrap();
    let address = |net: &Net| PeerAddress { peer_id: net.peer_id(), addresses: net.addresses() };
    for (hash, shard) in hashes.iter().zip(&shards) {
        assert_eq!(client.get_blob(*hash, &|_| {}).await.unwrap(), *shard);
        let from = [address(&market.net), address(&second)];
        assert!(worker.fetch(hash, 1 << 20, &from, &|_| {}).await.unwrap() == *shard);
    }
    stop.cancel();
    gateway.ended().await.unwrap();
    tokio::time::timeout(market::SOON, market.node.stop()).await.unwrap();
}
