// OpenSSL's assembly, called directly: its frames keep the CFA in odd registers or say it by expressions.
// The prototypes are written out here so that no headers are needed.
#include <stdio.h>
#include <string.h>

typedef struct { unsigned char room[512]; } State;
typedef struct bignum_st BIGNUM;
typedef struct bignum_ctx BN_CTX;

int SHA1_Init(State *), SHA1_Update(State *, const void *, size_t), SHA1_Final(unsigned char *, State *);
int SHA256_Init(State *), SHA256_Update(State *, const void *, size_t), SHA256_Final(unsigned char *, State *);
int SHA512_Init(State *), SHA512_Update(State *, const void *, size_t), SHA512_Final(unsigned char *, State *);
int MD5_Init(State *), MD5_Update(State *, const void *, size_t), MD5_Final(unsigned char *, State *);
int AES_set_encrypt_key(const unsigned char *, int, State *);
int AES_set_decrypt_key(const unsigned char *, int, State *);
void AES_cbc_encrypt(const unsigned char *, unsigned char *, size_t, const State *, unsigned char *, int);
BIGNUM *BN_bin2bn(const unsigned char *, int, BIGNUM *);
BIGNUM *BN_new(void);
BN_CTX *BN_CTX_new(void);
int BN_mod_exp(BIGNUM *, const BIGNUM *, const BIGNUM *, const BIGNUM *, BN_CTX *);
int BN_mod_exp_mont_consttime(BIGNUM *, const BIGNUM *, const BIGNUM *, const BIGNUM *, BN_CTX *, void *);
int BN_bn2bin(const BIGNUM *, unsigned char *);
void RC4_set_key(State *, int, const unsigned char *);

int main(void) {
    static unsigned char data[512], other[512], digest[64];
    State state;
    memset(data, 0x5a, sizeof data);
    SHA1_Init(&state), SHA1_Update(&state, data, sizeof data), SHA1_Final(digest, &state);
    SHA256_Init(&state), SHA256_Update(&state, data, sizeof data), SHA256_Final(digest, &state);
    SHA512_Init(&state), SHA512_Update(&state, data, sizeof data), SHA512_Final(digest, &state);
    MD5_Init(&state), MD5_Update(&state, data, sizeof data), MD5_Final(digest, &state);

    unsigned char iv[16] = {1};
    AES_set_encrypt_key(data, 256, &state);
    AES_cbc_encrypt(data, other, sizeof data, &state, iv, 1);
    AES_set_decrypt_key(data, 256, &state);
    AES_cbc_encrypt(other, data, sizeof data, &state, iv, 0);

    BN_CTX *context = BN_CTX_new();
    data[127] |= 1, data[63] |= 1;
    BIGNUM *base = BN_bin2bn(digest, 20, 0), *exponent = BN_bin2bn(digest + 8, 6, 0), *result = BN_new();
    for (int bytes = 64; bytes <= 128; bytes += 64) {
        BIGNUM *modulus = BN_bin2bn(data, bytes, 0);
        BN_mod_exp(result, base, exponent, modulus, context);
        BN_mod_exp_mont_consttime(result, base, exponent, modulus, context, 0);
    }
    printf("%d %02x\n", BN_bn2bin(result, other), other[0]);
    return 0;
}
