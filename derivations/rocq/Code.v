(* The code is the formulas of the theorems.  Traced.v holds what the functions of derivations.objectives do, recorded by
   calling them; here each is proved to be minus the logarithm of its preference model, and the end is the sentence the
   project is about: at the regularized optimum the code's loss is the likelihood of the true rewards. *)
Require Import Reals Lra List Sums Preferences Identities SimPO MaxEnt Retention Traced.
Import ListNotations.
Open Scope R_scope.

(* Exponents that are equal by field are made to look equal: every exponent that can be is turned into x. *)
Ltac align x :=
  repeat match goal with
  | |- context [exp ?a] => assert_fails (constr_eq a x); replace a with x by (field; nz)
  end.

Lemma log_sigma x : ln (sigma x) = - ln (1 + exp (- x)).
Proof. rewrite <- minus_log_sigma. ring. Qed.

(* A pair: the loss is written with sigma on the right, and both margins, as seen from w and from l, are aligned. *)
Ltac pair code m := intros; unfold code; rewrite ?log_sigma; align (- (m)); align (- (- (m))); ring.

Theorem code_pair_loss_is_smoothed_rao_kupper gamma eps r_w r_l :
  code_pair_loss gamma eps r_w r_l
  = - (1 - eps) * ln (sigma (r_w - r_l - gamma)) - eps * ln (sigma (- (r_w - r_l - gamma))).
Proof. pair code_pair_loss (r_w - r_l - gamma). Qed.

Theorem code_maxent_is_bradley_terry beta logp_w logp_l :
  code_maxent beta logp_w logp_l = - ln (sigma (beta * logp_w - beta * logp_l)).
Proof. pair code_maxent (beta * logp_w - beta * logp_l). Qed.

Theorem code_dpo_is_published beta logp_w logp_l ref_w ref_l :
  code_dpo beta logp_w logp_l ref_w ref_l = - ln (sigma (beta * (logp_w - ref_w) - beta * (logp_l - ref_l))).
Proof. pair code_dpo (beta * (logp_w - ref_w) - beta * (logp_l - ref_l)). Qed.

Theorem code_simpo_is_published beta gamma logp_w logp_l len_w len_l : len_w <> 0 -> len_l <> 0 ->
  code_simpo beta gamma logp_w logp_l len_w len_l
  = - ln (sigma (beta / len_w * logp_w - beta / len_l * logp_l - gamma)).
Proof. pair code_simpo (beta / len_w * logp_w - beta / len_l * logp_l - gamma). Qed.

(* ---- objectives made from their names, on batches: each row is the loss of its own examples ---- *)
Section Batch.
Variable beta : R.
Variables logp length ref_logp : nat -> nat -> R.  (* row, place *)
Hypothesis length_nonzero : forall i j, length i j <> 0.

Definition score_entropy i j := beta * logp i j.
Definition score_kl i j := beta * (logp i j - ref_logp i j).
Definition score_generalized i j := beta / length i j * logp i j.

Ltac align_score x :=
  repeat match goal with
  | |- context [exp ?a] =>
      assert_fails (constr_eq a x);
      replace a with x by (unfold score_entropy, score_kl, score_generalized; field; auto)
  end.
Ltac scores := unfold score_entropy, score_kl, score_generalized.

Definition pair_likelihood (s : nat -> nat -> R) i := - ln (sigma (s i 0%nat - s i 1%nat)).
Definition ranking_likelihood (s : nat -> nat -> R) i := - ln (plackett_luce (s i) [0; 1; 2; 3]%nat).

Ltac named_pair code s i :=
  unfold code, pair_likelihood; rewrite minus_log_sigma; align_score (- (s i 0%nat - s i 1%nat)); ring.
Ltac named_ranking code s i :=
  unfold code, ranking_likelihood; rewrite !minus_log_pl; cbn [sum plackett_luce]; rewrite !Rplus_0_r, ln_exp, ln_1;
  align_score (s i 0%nat); align_score (s i 1%nat); align_score (s i 2%nat); align_score (s i 3%nat);
  rewrite <- !Rplus_assoc; scores; field; auto.

Theorem ranking_loss_rows :
  code_ranking_loss_row0 logp = ranking_likelihood logp 0 /\ code_ranking_loss_row1 logp = ranking_likelihood logp 1.
Proof. split; [named_ranking code_ranking_loss_row0 logp 0%nat|named_ranking code_ranking_loss_row1 logp 1%nat]. Qed.

Theorem maxent_rows :
  name_maxent_row0 beta logp length ref_logp = pair_likelihood score_entropy 0
  /\ name_maxent_row1 beta logp length ref_logp = pair_likelihood score_entropy 1.
Proof. split; [named_pair name_maxent_row0 score_entropy 0%nat|named_pair name_maxent_row1 score_entropy 1%nat]. Qed.

Theorem dpo_rows :
  name_dpo_row0 beta logp length ref_logp = pair_likelihood score_kl 0
  /\ name_dpo_row1 beta logp length ref_logp = pair_likelihood score_kl 1.
Proof. split; [named_pair name_dpo_row0 score_kl 0%nat|named_pair name_dpo_row1 score_kl 1%nat]. Qed.

Theorem simpo_rows :
  name_simpo_row0 beta logp length ref_logp = pair_likelihood score_generalized 0
  /\ name_simpo_row1 beta logp length ref_logp = pair_likelihood score_generalized 1.
Proof. split; [named_pair name_simpo_row0 score_generalized 0%nat|named_pair name_simpo_row1 score_generalized 1%nat]. Qed.

Theorem maxent_pl_rows :
  name_maxent_pl_row0 beta logp length ref_logp = ranking_likelihood score_entropy 0
  /\ name_maxent_pl_row1 beta logp length ref_logp = ranking_likelihood score_entropy 1.
Proof.
  split; [named_ranking name_maxent_pl_row0 score_entropy 0%nat|named_ranking name_maxent_pl_row1 score_entropy 1%nat].
Qed.

Theorem dpo_pl_rows :
  name_dpo_pl_row0 beta logp length ref_logp = ranking_likelihood score_kl 0
  /\ name_dpo_pl_row1 beta logp length ref_logp = ranking_likelihood score_kl 1.
Proof. split; [named_ranking name_dpo_pl_row0 score_kl 0%nat|named_ranking name_dpo_pl_row1 score_kl 1%nat]. Qed.

Theorem simpo_pl_rows :
  name_simpo_pl_row0 beta logp length ref_logp = ranking_likelihood score_generalized 0
  /\ name_simpo_pl_row1 beta logp length ref_logp = ranking_likelihood score_generalized 1.
Proof.
  split; [named_ranking name_simpo_pl_row0 score_generalized 0%nat
         |named_ranking name_simpo_pl_row1 score_generalized 1%nat].
Qed.
End Batch.

(* The shaped reward of entropy and KL together is the one whose flow the retention law solves. *)
Theorem code_shaped_reward_is_that_of_retention alpha beta (A : Type) (log_q r log_pi : A -> R) y :
  code_shaped_reward alpha beta (r y) (log_pi y) (log_q y) = shaped A alpha beta log_q r log_pi y.
Proof. unfold code_shaped_reward, shaped. ring. Qed.

(* ---- the end: from the regularized problem, with the code's own phi, to the code's own loss ---- *)
Theorem code_simpo_is_maximum_entropy (A : Type) (Y : list A) (beta : R) (len r : A -> R) :
  Y <> [] -> 0 < beta -> (forall y, 0 < len y) ->
  let J p := sum (fun y => p y * r y - beta / len y * (p y * ln (p y) - p y)) Y in
  exists pi, policy Y pi /\ (forall y, In y Y -> 0 < pi y)
    /\ (forall y, In y Y -> phi_generalized beta (ln (pi y)) (len y) 0 = beta / len y * (pi y * ln (pi y) - pi y))
    /\ (forall p, policy Y p -> J p <= J pi)
    /\ (forall p, policy Y p -> J p = J pi -> forall y, In y Y -> p y = pi y)
    /\ (forall w l, In w Y -> In l Y ->
          code_simpo beta 0 (ln (pi w)) (ln (pi l)) (len w) (len l) = - ln (sigma (r w - r l)))
    /\ (forall y : nat -> A, (forall j, In (y j) Y) ->
          name_simpo_pl_row0 beta (fun _ j => ln (pi (y j))) (fun _ j => len (y j)) (fun _ _ => 0)
          = - ln (plackett_luce r [y 0%nat; y 1%nat; y 2%nat; y 3%nat])).
Proof.
  intros N Hb Hlen J.
  assert (Ha : forall y, 0 < beta / len y) by (intros; now apply Rdiv_lt_0_compat).
  destruct (simpo_is_maximum_entropy A Y N (fun y => beta / len y) Ha r)
    as (pi & lam & Pol & Pos & Stat & Max & Only & BT & PL).
  assert (Hne : forall y, len y <> 0) by (intros y; pose proof (Hlen y); lra).
  exists pi. split; [exact Pol|]. split; [exact Pos|]. split; [|split; [exact Max|split; [exact Only|split]]].
  - intros y Hy. unfold phi_generalized. rewrite exp_ln by auto. field. auto.
  - intros w l Hw Hl. rewrite code_simpo_is_published by auto. rewrite (BT w l Hw Hl). do 2 f_equal. f_equal. ring.
  - intros y Hy.
    destruct (simpo_pl_rows beta (fun _ j => ln (pi (y j))) (fun _ j => len (y j)) (fun _ _ => 0)) as [E _]; [auto|].
    rewrite E, (PL [y 0%nat; y 1%nat; y 2%nat; y 3%nat]); [reflexivity|]. intros z Hz. simpl in Hz.
    repeat (destruct Hz as [<-|Hz]; [auto|]). destruct Hz.
Qed.

Theorem code_dpo_is_kl_regularized (A : Type) (Y : list A) (beta : R) (q r : A -> R) :
  Y <> [] -> 0 < beta -> (forall y, 0 < q y) ->
  let J p := sum (fun y => p y * r y - beta * (p y * (ln (p y) - ln (q y)))) Y in
  exists pi, policy Y pi /\ (forall y, In y Y -> 0 < pi y)
    /\ (forall y, In y Y -> phi_kl beta (ln (pi y)) 0 (ln (q y)) = beta * (pi y * (ln (pi y) - ln (q y))))
    /\ (forall p, policy Y p -> J p <= J pi)
    /\ (forall p, policy Y p -> J p = J pi -> forall y, In y Y -> p y = pi y)
    /\ (forall w l, In w Y -> In l Y ->
          code_dpo beta (ln (pi w)) (ln (pi l)) (ln (q w)) (ln (q l)) = - ln (sigma (r w - r l)))
    /\ (forall y : nat -> A, (forall j, In (y j) Y) ->
          name_dpo_pl_row0 beta (fun _ j => ln (pi (y j))) (fun _ _ => 1) (fun _ j => ln (q (y j)))
          = - ln (plackett_luce r [y 0%nat; y 1%nat; y 2%nat; y 3%nat])).
Proof.
  intros N Hb Hq J.
  destruct (dpo_is_kl_regularized A Y N beta Hb q Hq r) as (pi & Pol & Pos & _ & _ & Max & Only & BT & PL).
  exists pi. split; [exact Pol|]. split; [exact Pos|]. split; [|split; [exact Max|split; [exact Only|split]]].
  - intros y Hy. unfold phi_kl. rewrite exp_ln by auto. reflexivity.
  - intros w l Hw Hl. now rewrite code_dpo_is_published, (BT w l Hw Hl).
  - intros y Hy.
    destruct (dpo_pl_rows beta (fun _ j => ln (pi (y j))) (fun _ _ => 1) (fun _ j => ln (q (y j)))) as [E _].
    rewrite E, (PL [y 0%nat; y 1%nat; y 2%nat; y 3%nat]); [reflexivity|]. intros z Hz. simpl in Hz.
    repeat (destruct Hz as [<-|Hz]; [auto|]). destruct Hz.
Qed.
